"""Certificates for the lab: one authority, and server certificates that are good or wrong in one way each."""

import base64
import collections
import datetime
import hashlib
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Pair = collections.namedtuple("Pair", "certificate key")  # paths of two PEM files

DAY = datetime.timedelta(days=1)


class Certificates:
    """Writes PEM files into `directory`; `ca` is the path of the authority's certificate."""

    def __init__(self, directory, authority="Penstock lab"):
        self.directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = name(authority)
        now = datetime.datetime.utcnow()
        self.ca = self._write("ca.pem", pem(
            builder(self._name, self._name, self._key, now - DAY, now + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())))

    def issue(self, stem, hosts, days=(-1, 30), self_signed=False):
        """STEM.pem and STEM-key.pem for `hosts` (names and addresses), valid from and to `days` from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.utcnow()
        subject = name(hosts[0])
        certificate = (
            builder(subject, subject if self_signed else self._name, key, now + days[0] * DAY, now + days[1] * DAY)
            .add_extension(x509.SubjectAlternativeName([alternative(host) for host in hosts]), critical=False)
            .sign(key if self_signed else self._key, hashes.SHA256()))
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                    serialization.NoEncryption())
        return Pair(self._write(f"{stem}.pem", pem(certificate)), self._write(f"{stem}-key.pem", private, 0o600))

    def _write(self, file_name, content, mode=0o644):
        path = self.directory / file_name
        path.unlink(missing_ok=True)  # an earlier test may have given it to another user
        path.write_bytes(content)
        path.chmod(mode)
        return path


def pin_of(certificate_path):
    """The public key's pin as curl writes it: sha256//BASE64 of the SubjectPublicKeyInfo."""
    certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
    spki = certificate.public_key().public_bytes(serialization.Encoding.DER,
                                                 serialization.PublicFormat.SubjectPublicKeyInfo)
    return "sha256//" + base64.b64encode(hashlib.sha256(spki).digest()).decode()


def name(common_name):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def alternative(host):
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def builder(subject, issuer, key, begin, end):
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(begin).not_valid_after(end))


def pem(certificate):
    return certificate.public_bytes(serialization.Encoding.PEM)

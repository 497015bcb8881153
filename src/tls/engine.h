// TLS without sockets: bytes in, bytes out.
//
// An Engine is one end of one TLS connection. It never waits and never touches the network: its owner hands it what
// arrived and sends what it finds in output().
//
//       network --ciphertext--> receive() --> plain
//       network <--consume----- output()  <-- send(plain), start(), close(), answers of the handshake
//
//   HANDSHAKING --the peer's last handshake message--> OPEN --close()--> CLOSED
//        |                                               |                 ^
//        +------------ any refusal of receive() ---------+-----------------+
//
// receive() takes everything it is given, so there is nothing for the owner to keep. It may leave something in
// output() whatever it returns: look there after every call, after a refusal too, since an alert tells the peer why.
// The peer's close_notify only sets peer_closed(): nothing more will arrive, and we may go on sending (RFC 8446 6.1).
// After close() what still arrives is ignored.
//
// Always true   what is appended to `plain` was decrypted and authenticated, and on a client it came from a server
//               whose certificate was accepted (EngineTest: NothingIsDecryptedFromAServerThatWasRefused).
//               Over a connection's life `plain` grows by less than the ciphertext that was given.
// Policy        TLS 1.2 and 1.3; AES-128-GCM, ChaCha20, AES-256-GCM, in this order of ours, ChaCha20 first for a
//               client that puts it first because it has no AES instructions. No renegotiation, no compression, no
//               session tickets: a link lives for hours, so one full handshake costs nothing, while a ticket key to
//               guard and rotate would cost forward secrecy. ALPN "http/1.1". A peer that keeps changing its
//               key without need is refused: that would be much work for few bytes. So is one that sends nothing but
//               empty records.
// Errors        unauthenticated: the server's certificate was refused; closed: the peer ended the connection, by an
//               alert that the message names; protocol_error: all the rest. A refusal repeats at each later call.
// Ownership     An Engine keeps what it needs of its context alive. The clock must outlive both.
// Threads       Contexts: any thread. An Engine: one thread at a time, and it may be handed to another.
// Libraries     Contexts and engines are interfaces, and only create() names a library: context.cc makes them with
//               OpenSSL. Whoever gets a context passed in does not care whose it is. After a handshake that agreed on
//               TLS 1.3 with AES-128 the engine protects the records itself (record_layer.h) and OpenSSL's half of it
//               is gone.
// Not here      sockets, deadlines for the handshake, WebSocket.
#pragma once

#include <memory>
#include <string>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/result.h"
#include "tls/certificate.h"

namespace penstock::tls {

// The most plaintext that one TLS record carries (RFC 8446 5.1): send() in multiples of it wastes no header.
inline constexpr std::size_t kMaxRecordPlaintext = 16384;

class Engine {
 public:
  enum class State { handshaking, open, closed };

  virtual ~Engine() = default;

  // A client's first message. A server has none: it does nothing.
  // Refusal: invalid_argument for a server name that cannot be one.
  virtual Result<void> start() = 0;

  // `ciphertext` is read only during the call. What it decrypts to is appended to `plain`.
  virtual Result<void> receive(ByteView ciphertext, ByteQueue& plain) = 0;

  // Encrypts all of `plain` into output(), in full records as far as it goes. Refusal: closed, unless open.
  virtual Result<void> send(ByteView plain) = 0;

  // close_notify into output(), if the connection was open. Harmless when repeated.
  virtual void close() = 0;

  // Ciphertext to send: the caller sends from the front and consumes what was sent.
  virtual ByteQueue& output() = 0;

  virtual State state() const = 0;
  virtual bool peer_closed() const = 0;

  // "TLSv1.3 TLS_AES_128_GCM_SHA256"; "handshaking" until it is agreed.
  virtual std::string description() const = 0;

  // Gives back what a record needs (2 KB of expanded keys and the buffer for an incomplete one; 33 KB where the library
  // protects them) and an empty output queue; they come back with the next byte. For a connection that was silent for a
  // while: doing it after each record costs more than it saves.
  virtual void release_idle_memory() = 0;

 protected:
  Engine() = default;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
};

// A server's certificate and key. For a renewed certificate create another: connections that are open keep the old.
class ServerContext {
 public:
  // Whether a certificate outside its dates is a refusal. `any` is for a server that must run on: it looks at
  // certificate() and warns.
  enum class Dates { must_be_valid, any };

  // PEM files; the certificate's may go on with the intermediate ones. Refusals name server.tls_cert or
  // server.tls_key, the path, and what to do. The clock is used only here.
  static Result<std::shared_ptr<ServerContext>> create(const std::string& certificate_path, const std::string& key_path,
                                                       const Clock& clock, Dates dates = Dates::must_be_valid);
  // By the machine's calendar.
  static Result<std::shared_ptr<ServerContext>> create(const std::string& certificate_path,
                                                       const std::string& key_path);
  virtual ~ServerContext() = default;

  virtual std::unique_ptr<Engine> new_engine() = 0;
  virtual const CertificateInfo& certificate() const = 0;

 protected:
  ServerContext() = default;
  ServerContext(const ServerContext&) = delete;
  ServerContext& operator=(const ServerContext&) = delete;
};

// Whom a client believes, strongest word first:
//   verify=false  anybody. For tests; a pin and a ca_file are not looked at.
//   pin           whoever holds that key. Chain, name and dates are not looked at: the key is the identity, and a
//                 self-signed certificate is as good as any.
//   ca_file       chains to a certificate in that PEM file and to no other (the server's own may stand there), with
//                 the right name and dates.
//   none of them  the same with the system's authorities.
struct ClientOptions {
  bool verify = true;
  std::string ca_file;
  std::string pin;
};

class ClientContext {
 public:
  // Refusals name server.ca_file or server.pin. The clock says whether a certificate is valid at each handshake.
  static Result<std::shared_ptr<ClientContext>> create(const ClientOptions& options, const Clock& clock);
  // By the machine's calendar.
  static Result<std::shared_ptr<ClientContext>> create(const ClientOptions& options);
  virtual ~ClientContext() = default;

  // A DNS name or an IP address without brackets, as the certificate should have it. Only names are sent as SNI
  // (RFC 6066 3 forbids addresses).
  virtual std::unique_ptr<Engine> new_engine(const std::string& server_name) = 0;

 protected:
  ClientContext() = default;
  ClientContext(const ClientContext&) = delete;
  ClientContext& operator=(const ClientContext&) = delete;
};

}  // namespace penstock::tls

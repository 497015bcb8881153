// Where names stand in the rdata of a type: what reading must expand and writing may compress.
//
// Only in the types of RFC 1035 may names be compressed when they are written; in those that came before RFC 3597 they
// are expanded when they are read (section 4 there). The rdata of all others is bytes.
#pragma once

#include <array>
#include <cstdint>

namespace penstock::dns {

struct RdataForm {
  std::uint16_t type;
  std::uint8_t before;  // bytes in front of the names
  std::uint8_t names;
  std::uint8_t after;  // bytes behind them
  bool compressed;
};

inline constexpr std::array kRdataForms{
    RdataForm{1, 4, 0, 0, false},    // A
    RdataForm{2, 0, 1, 0, true},     // NS
    RdataForm{3, 0, 1, 0, true},     // MD
    RdataForm{4, 0, 1, 0, true},     // MF
    RdataForm{5, 0, 1, 0, true},     // CNAME
    RdataForm{6, 0, 2, 20, true},    // SOA
    RdataForm{7, 0, 1, 0, true},     // MB
    RdataForm{8, 0, 1, 0, true},     // MG
    RdataForm{9, 0, 1, 0, true},     // MR
    RdataForm{12, 0, 1, 0, true},    // PTR
    RdataForm{14, 0, 2, 0, true},    // MINFO
    RdataForm{15, 2, 1, 0, true},    // MX
    RdataForm{17, 0, 2, 0, false},   // RP
    RdataForm{18, 2, 1, 0, false},   // AFSDB
    RdataForm{21, 2, 1, 0, false},   // RT
    RdataForm{26, 2, 2, 0, false},   // PX
    RdataForm{28, 16, 0, 0, false},  // AAAA
    RdataForm{33, 6, 1, 0, false},   // SRV
    RdataForm{36, 2, 1, 0, false},   // KX
    RdataForm{39, 0, 1, 0, false},   // DNAME
};

// Null for a type whose rdata is bytes.
constexpr const RdataForm* rdata_form_of(std::uint16_t type) {
  for (const RdataForm& form : kRdataForms)
    if (form.type == type) return &form;
  return nullptr;
}

}  // namespace penstock::dns

package proxyproto

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
)

// Version 2 (the specification, 2.2): start2, version and command, family and transport, the length of what follows.
const (
	head2    = len(start2) + 4
	version2 = 0x20
	local2   = 0
	proxy2   = 1

	unspec2 = 0
	inet2   = 1
	inet62  = 2
	unix2   = 3

	stream2 = 1
	crc2    = 0x03 // PP2_TYPE_CRC32C
)

// addrs2 are the lengths of the addresses, ports included, by family.
var addrs2 = [...]int{unspec2: 0, inet2: 2*4 + 4, inet62: 2*16 + 4, unix2: 2 * 108}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// missing2 checks the fixed part as soon as that is there.
func missing2(b []byte) (int, error) {
	if len(b) < head2 {
		if n := len(start2); len(b) <= n {
			return least - len(b), nil // as many as of version 1: never beyond
		}
		return head2 - len(b), nil
	}
	command, family, transport := b[12], b[13]>>4, b[13]&15
	size := int(binary.BigEndian.Uint16(b[14:]))
	switch {
	case command != version2|local2 && command != version2|proxy2:
		return 0, malformed("neither LOCAL nor PROXY of version 2")
	case int(family) >= len(addrs2) || transport > 2:
		return 0, malformed("unknown kind of address")
	case command == version2|proxy2 && size < addrs2[family]:
		return 0, malformed("too short for its addresses")
	case head2+size > MaxSize:
		return 0, malformed("longer than 4096 bytes")
	}
	return max(head2+size-len(b), 0), nil
}

func parse2(b []byte) (h Header, n int, err error) {
	n = head2 + int(binary.BigEndian.Uint16(b[14:]))
	b = b[:n]
	family := b[13] >> 4
	if b[12] == version2|local2 || family == unspec2 || b[13]&15 == 0 {
		return Header{Local: true}, n, nil // whatever follows is to be ignored
	}
	rest := b[head2:]
	switch family {
	case inet2:
		h.Source = netip.AddrPortFrom(netip.AddrFrom4([4]byte(rest)), binary.BigEndian.Uint16(rest[8:]))
		h.Destination = netip.AddrPortFrom(netip.AddrFrom4([4]byte(rest[4:])), binary.BigEndian.Uint16(rest[10:]))
	case inet62:
		h.Source = unmapped(netip.AddrPortFrom(netip.AddrFrom16([16]byte(rest)), binary.BigEndian.Uint16(rest[32:])))
		h.Destination = unmapped(netip.AddrPortFrom(netip.AddrFrom16([16]byte(rest[16:])), binary.BigEndian.Uint16(rest[34:])))
	}
	if err := tlvs(b, head2+addrs2[family]); err != nil {
		return Header{}, 0, err
	}
	return h, n, nil
}

// tlvs skips over those of b, which begin at at, and verifies the checksum of b where one is among them.
func tlvs(b []byte, at int) error {
	for at < len(b) {
		if len(b)-at < 3 {
			return malformed("a TLV is cut short")
		}
		kind, size := b[at], int(binary.BigEndian.Uint16(b[at+1:]))
		if at += 3; size > len(b)-at {
			return malformed("a TLV is cut short")
		}
		if kind == crc2 {
			if size != crc32.Size {
				return malformed("a checksum has four bytes")
			}
			// The checksum is taken with its own bytes as zeros.
			sum := crc32.Update(0, castagnoli, b[:at])
			sum = crc32.Update(sum, castagnoli, make([]byte, crc32.Size))
			if crc32.Update(sum, castagnoli, b[at+size:]) != binary.BigEndian.Uint32(b[at:]) {
				return malformed("the checksum is wrong")
			}
		}
		at += size
	}
	return nil
}

func append2(dst []byte, local bool, src, to netip.AddrPort) []byte {
	dst = append(dst, start2...)
	switch {
	case local:
		return append(dst, version2|local2, unspec2, 0, 0)
	case !src.IsValid():
		dst = append(dst, version2|proxy2, unix2<<4|stream2, 0, byte(addrs2[unix2]))
		return append(dst, make([]byte, addrs2[unix2])...)
	case src.Addr().Is4():
		dst = append(dst, version2|proxy2, inet2<<4|stream2, 0, byte(addrs2[inet2]))
	default:
		dst = append(dst, version2|proxy2, inet62<<4|stream2, 0, byte(addrs2[inet62]))
	}
	dst = append(append(dst, src.Addr().AsSlice()...), to.Addr().AsSlice()...)
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(dst, src.Port()), to.Port())
}

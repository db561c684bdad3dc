package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"net"
	"time"
)

// SCTP (RFC 9260) without a kernel that has it: one question and one answer in an
// association, over raw sockets. What is on the way, kube-proxy's address
// translation, connection tracking and IPVS, sees an association like any other.
// Only IPv4: over IPv6 this machine would have to know which address it sends from.

const sctpNetwork = "ip4:132"

// The kinds of chunks that it takes.
const (
	sctpData       = 0
	sctpInit       = 1
	sctpInitAck    = 2
	sctpSack       = 3
	sctpAbort      = 6
	sctpCookieEcho = 10
	sctpCookieAck  = 11
)

type sctpPacket struct {
	source, target uint16
	tag            uint32
	chunks         []sctpChunk
}

type sctpChunk struct {
	kind, flags byte
	body        []byte
}

// sctpHeader is the size of what comes before the chunks: ports, tag and checksum.
const sctpHeader = 12

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (p sctpPacket) bytes() []byte {
	big := binary.BigEndian
	out := big.AppendUint16(big.AppendUint16(nil, p.source), p.target)
	out = append(big.AppendUint32(out, p.tag), 0, 0, 0, 0)
	for _, c := range p.chunks {
		out = append(out, c.kind, c.flags)
		out = append(big.AppendUint16(out, uint16(4+len(c.body))), c.body...)
		out = append(out, make([]byte, (4-len(out)%4)%4)...)
	}
	binary.LittleEndian.PutUint32(out[8:], crc32.Checksum(out, castagnoli))
	return out
}

// parseSCTP leaves out what is damaged.
func parseSCTP(data []byte) (p sctpPacket, ok bool) {
	if len(data) < sctpHeader {
		return p, false
	}
	sum := binary.LittleEndian.Uint32(data[8:])
	clear(data[8:sctpHeader])
	big := binary.BigEndian
	p = sctpPacket{source: big.Uint16(data), target: big.Uint16(data[2:]), tag: big.Uint32(data[4:])}
	if crc32.Checksum(data, castagnoli) != sum {
		return p, false
	}
	for data = data[sctpHeader:]; len(data) >= 4; {
		size := int(big.Uint16(data[2:]))
		if size < 4 || size > len(data) {
			return p, false
		}
		p.chunks = append(p.chunks, sctpChunk{data[0], data[1], data[4:size]})
		data = data[min(len(data), (size+3)/4*4):]
	}
	return p, true
}

// sctpBegin is the body of INIT and INIT ACK: a tag, a window, one stream each way
// and the first number.
func sctpBegin(tag uint32) []byte {
	big := binary.BigEndian
	out := big.AppendUint32(big.AppendUint32(nil, tag), 1<<16)
	return big.AppendUint32(append(out, 0, 1, 0, 1), 1)
}

// sctpMessage is the body of DATA that is whole, and the first of its side.
func sctpMessage(text []byte) sctpChunk {
	const whole = 3 // begins and ends here
	return sctpChunk{sctpData, whole, append([]byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}, text...)}
}

const sctpMessageHeader = 12

// serveSCTP answers the first message of every association.
func serveSCTP(conn net.PacketConn, port uint16, who Answer) error {
	associations := map[string]uint32{} // the tag of the other side
	for buf := make([]byte, 64<<10); ; {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return err
		}
		p, ok := parseSCTP(buf[:n])
		if !ok || p.target != port {
			continue
		}
		client := net.JoinHostPort(from.String(), fmt.Sprint(p.source))
		reply := sctpPacket{source: port, target: p.source, tag: associations[client]}
		for _, c := range p.chunks {
			switch {
			case c.kind == sctpInit && len(c.body) >= 4:
				reply.tag = binary.BigEndian.Uint32(c.body)
				cookie := append([]byte{0, 7, 0, 8}, c.body[:4]...) // a parameter: all that is to be remembered
				reply.chunks = append(reply.chunks, sctpChunk{sctpInitAck, 0, append(sctpBegin(rand.Uint32()|1), cookie...)})
			case c.kind == sctpCookieEcho && len(c.body) == 4:
				reply.tag = binary.BigEndian.Uint32(c.body)
				associations[client] = reply.tag
				reply.chunks = append(reply.chunks, sctpChunk{kind: sctpCookieAck})
			case c.kind == sctpData && len(c.body) > sctpMessageHeader && reply.tag != 0:
				answer := who
				answer.Protocol, answer.Client, answer.Received = "sctp", client, string(c.body[sctpMessageHeader:])
				text, err := json.Marshal(answer)
				if err != nil {
					return err
				}
				seen := append(c.body[:4:4], 0, 1, 0, 0, 0, 0, 0, 0)
				reply.chunks = append(reply.chunks, sctpChunk{sctpSack, 0, seen}, sctpMessage(text))
			case c.kind == sctpAbort:
				delete(associations, client)
			}
		}
		if len(reply.chunks) > 0 {
			_, _ = conn.WriteTo(reply.bytes(), from) // a client that is gone asks no more
		}
	}
}

// askSCTP asks a server, given its address, its port and the text, and prints the answer.
func askSCTP(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("want an address, a port and a text")
	}
	var port uint16
	if _, err := fmt.Sscan(args[1], &port); err != nil {
		return err
	}
	conn, err := net.Dial(sctpNetwork, args[0])
	if err != nil {
		return err
	}
	defer conn.Close()
	c := &sctpClient{conn: conn.(*net.IPConn), packet: sctpPacket{source: uint16(32768 + rand.IntN(28000)), target: port}, tag: rand.Uint32() | 1}
	begun, err := c.exchange(sctpChunk{sctpInit, 0, sctpBegin(c.tag)}, sctpInitAck)
	if err != nil {
		return err
	}
	const cookieAt = 16 + 4 // after what sctpBegin makes, and the head of the parameter
	if len(begun) <= cookieAt {
		return fmt.Errorf("no cookie in the INIT ACK %x", begun)
	}
	c.packet.tag = binary.BigEndian.Uint32(begun)
	if _, err := c.exchange(sctpChunk{sctpCookieEcho, 0, begun[cookieAt:]}, sctpCookieAck); err != nil {
		return err
	}
	answer, err := c.exchange(sctpMessage([]byte(args[2])), sctpData)
	if err != nil || len(answer) <= sctpMessageHeader {
		return fmt.Errorf("no answer: %x, %w", answer, err)
	}
	fmt.Println(string(answer[sctpMessageHeader:]))
	c.packet.chunks = []sctpChunk{{kind: sctpAbort}}
	_, err = conn.Write(c.packet.bytes())
	return err
}

type sctpClient struct {
	conn   *net.IPConn
	packet sctpPacket // with the ports, and the tag of the other side
	tag    uint32     // of this side
}

// exchange sends a chunk, again and again, until one of a kind comes back.
func (c *sctpClient) exchange(say sctpChunk, want byte) ([]byte, error) {
	buf := make([]byte, 64<<10)
	c.packet.chunks = []sctpChunk{say}
	for range 10 {
		if _, err := c.conn.Write(c.packet.bytes()); err != nil {
			return nil, err
		}
		if err := c.conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			return nil, err
		}
		for {
			n, _, err := c.conn.ReadFrom(buf) // which takes the head of IPv4 off
			if err != nil {
				break // late, or refused by something on the way: sent again
			}
			p, ok := parseSCTP(buf[:n])
			if !ok || p.source != c.packet.target || p.target != c.packet.source || p.tag != c.tag {
				continue
			}
			for _, chunk := range p.chunks {
				if chunk.kind == want {
					return chunk.body, nil
				}
			}
		}
	}
	return nil, fmt.Errorf("nobody answers chunk %d with chunk %d", say.kind, want)
}

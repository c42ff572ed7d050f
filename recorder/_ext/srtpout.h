/* Protected RTP to many receivers over one UDP socket: datagrams gathered for sendmmsg, runs of equal size to one receiver as one message
   that the kernel cuts (UDP_SEGMENT). Include before other system headers: needs _GNU_SOURCE. */
#ifndef WATCHROOM_SRTPOUT_H
#define WATCHROOM_SRTPOUT_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#define WR_OUT_MESSAGES 64
#define WR_OUT_SLOTS 256
#define WR_OUT_PACKET 1400                  /* the largest clear packet, header included */
#define WR_OUT_SLOT (WR_OUT_PACKET + 8 + 152)   /* RTX's two bytes; what libsrtp may write behind (SRTP_MAX_TRAILER_LEN is 144) */
#define WR_OUT_RUN 60                       /* packets of one message: the kernel takes 64 */
#define WR_OUT_RUN_BYTES 60000
#define WR_OUT_RING 1024

typedef int (*wr_protect)(void *context, void *packet, int *length);

/* what was sent with a sequence number: for NACK */
typedef struct { uint32_t number, timestamp; uint16_t sequence, used; } wr_sent;

typedef struct {
    void *context;
    wr_protect protect;
    uint32_t ssrc, shift;                   /* shift: added to a packet's own timestamp */
    uint16_t sequence;                      /* of the next packet */
    uint8_t payload_type;
    uint8_t keeps;                          /* whether the ring is written */
    socklen_t to_length;
    struct sockaddr_in6 to;
    uint64_t packets, octets, dropped, failed;
    uint32_t last_timestamp;
    wr_sent ring[WR_OUT_RING];
} wr_outlet;

typedef struct {
    int fd, gso;
    int messages, slots;
    int run_count, run_size, run_bytes, run_open;
    uint64_t datagrams, bytes, calls;
    wr_outlet *owner[WR_OUT_MESSAGES];
    struct mmsghdr head[WR_OUT_MESSAGES];
    struct iovec iov[WR_OUT_SLOTS];
    _Alignas(8) char control[WR_OUT_MESSAGES][CMSG_SPACE(sizeof(uint16_t))];
    _Alignas(16) unsigned char data[WR_OUT_SLOTS][WR_OUT_SLOT];
} wr_out;

static inline wr_out *wr_out_new(int fd, int gso) {
    wr_out *o = calloc(1, sizeof *o);
    if (o) { o->fd = fd; o->gso = gso; }
    return o;
}

/* the segments of a message one by one: what a kernel or a card that cannot cut them needs */
static inline void wr_out_singly(wr_out *o, int m) {
    struct msghdr one = o->head[m].msg_hdr, all = one;
    one.msg_control = NULL;
    one.msg_controllen = 0;
    one.msg_iovlen = 1;
    for (size_t i = 0; i < all.msg_iovlen; i++) {
        one.msg_iov = all.msg_iov + i;
        if (sendmsg(o->fd, &one, MSG_DONTWAIT) < 0) o->owner[m]->dropped++;
        else { o->datagrams++; o->bytes += one.msg_iov->iov_len; }
    }
}

/* everything gathered goes, or is counted as dropped: a full socket holds nobody up */
static inline void wr_out_flush(wr_out *o) {
    int at = 0;
    while (at < o->messages) {
        int n = sendmmsg(o->fd, o->head + at, o->messages - at, MSG_DONTWAIT);
        o->calls++;
        if (n > 0) {
            for (int m = at; m < at + n; m++) {
                o->datagrams += o->head[m].msg_hdr.msg_iovlen;
                o->bytes += o->head[m].msg_len;
            }
            at += n;
            continue;
        }
        if (errno == EINTR) continue;
        if (errno == EAGAIN || errno == ENOBUFS) {
            for (; at < o->messages; at++) o->owner[at]->dropped += o->head[at].msg_hdr.msg_iovlen;
            break;
        }
        if (o->head[at].msg_hdr.msg_iovlen > 1 && (errno == EIO || errno == EINVAL || errno == EOPNOTSUPP || errno == EMSGSIZE)) {
            o->gso = 0;
            wr_out_singly(o, at);
        } else o->owner[at]->dropped += o->head[at].msg_hdr.msg_iovlen;
        at++;
    }
    o->messages = o->slots = o->run_open = 0;
}

/* a slot for one more packet */
static inline unsigned char *wr_out_slot(wr_out *o) {
    if (o->slots == WR_OUT_SLOTS) wr_out_flush(o);
    return o->data[o->slots];
}

/* the packet in the slot, protected, goes to w: with the run that is open, or as a message of its own */
static inline void wr_out_add(wr_out *o, wr_outlet *w, int length) {
    struct iovec *v = &o->iov[o->slots];
    v->iov_base = o->data[o->slots];
    v->iov_len = length;
    if (o->run_open && o->gso && length <= o->run_size && o->run_count < WR_OUT_RUN && o->run_bytes + length <= WR_OUT_RUN_BYTES) {
        struct msghdr *h = &o->head[o->messages - 1].msg_hdr;
        h->msg_iovlen++;
        if (h->msg_iovlen == 2) {
            h->msg_control = o->control[o->messages - 1];
            h->msg_controllen = CMSG_SPACE(sizeof(uint16_t));
            struct cmsghdr *c = CMSG_FIRSTHDR(h);
            c->cmsg_level = IPPROTO_UDP;
            c->cmsg_type = UDP_SEGMENT;
            c->cmsg_len = CMSG_LEN(sizeof(uint16_t));
            uint16_t size = (uint16_t)o->run_size;
            memcpy(CMSG_DATA(c), &size, sizeof size);
        }
        o->run_count++;
        o->run_bytes += length;
        o->run_open = length == o->run_size;
        o->slots++;
        return;
    }
    if (o->messages == WR_OUT_MESSAGES) {       /* the packet lies in a slot that the flush gives back: it becomes the first */
        int from = o->slots;
        wr_out_flush(o);
        if (from) memcpy(o->data[0], o->data[from], length);
        v = &o->iov[0];
        v->iov_base = o->data[0];
        v->iov_len = length;
    }
    struct mmsghdr *m = &o->head[o->messages];
    memset(m, 0, sizeof *m);
    m->msg_hdr.msg_name = &w->to;
    m->msg_hdr.msg_namelen = w->to_length;
    m->msg_hdr.msg_iov = v;
    m->msg_hdr.msg_iovlen = 1;
    o->owner[o->messages] = w;
    o->run_open = 1;
    o->run_count = 1;
    o->run_size = o->run_bytes = length;
    o->messages++;
    o->slots++;
}

static inline void wr_put16(unsigned char *p, uint16_t v) { p[0] = v >> 8; p[1] = v & 255; }
static inline void wr_put32(unsigned char *p, uint32_t v) { p[0] = v >> 24; p[1] = v >> 16 & 255; p[2] = v >> 8 & 255; p[3] = v & 255; }
static inline uint32_t wr_get32(const unsigned char *p) { return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]; }

/* One packet of n bytes (12 <= n <= WR_OUT_PACKET) as w's own. original: -1, or the sequence number that RTX puts before the payload
   (RFC 4588 4). again: with this sequence number instead of the next one, -1 = the next one. */
static inline void wr_out_packet(wr_out *o, wr_outlet *w, const unsigned char *packet, int n, uint32_t timestamp, int original, int again,
                                 uint32_t number) {
    unsigned char *p = wr_out_slot(o);
    int length = n;
    uint16_t sequence = again >= 0 ? (uint16_t)again : w->sequence;
    memcpy(p, packet, 12);
    if (original >= 0) {
        wr_put16(p + 12, (uint16_t)original);
        memcpy(p + 14, packet + 12, n - 12);
        length += 2;
    } else memcpy(p + 12, packet + 12, n - 12);
    p[1] = (packet[1] & 0x80) | w->payload_type;
    wr_put16(p + 2, sequence);
    wr_put32(p + 4, timestamp);
    wr_put32(p + 8, w->ssrc);
    if (again < 0) {
        if (w->keeps) {
            wr_sent *s = &w->ring[sequence % WR_OUT_RING];
            s->number = number; s->timestamp = timestamp; s->sequence = sequence; s->used = 1;
        }
        w->sequence++;
        w->packets++;
        w->octets += length - 12;
        w->last_timestamp = timestamp;
    }
    if (w->protect(w->context, p, &length)) { w->failed++; return; }
    wr_out_add(o, w, length);
}
#endif

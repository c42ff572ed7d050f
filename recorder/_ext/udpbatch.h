/* recvmmsg into buffers of 64 KiB, with what the kernel tells beside the data. Include before other system headers: needs _GNU_SOURCE. */
#ifndef WATCHROOM_UDPBATCH_H
#define WATCHROOM_UDPBATCH_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#define WR_BATCH 32
#define WR_DATAGRAM 65536
#define WR_STRIDE (WR_DATAGRAM + 1472)      /* not a power of two: the buffers' beginnings fall into different cache sets */
#define WR_CONTROL 64

typedef struct {
    struct mmsghdr head[WR_BATCH];
    struct iovec iov[WR_BATCH];
    struct sockaddr_in6 from[WR_BATCH];
    _Alignas(8) char control[WR_BATCH][WR_CONTROL];
    int used;                               /* heads that the last call has written to */
    unsigned char data[WR_BATCH][WR_STRIDE];
} wr_batch;

static inline wr_batch *wr_batch_new(void) {
    wr_batch *b = malloc(sizeof *b);
    if (!b) return NULL;
    memset(b->head, 0, sizeof b->head);
    for (int i = 0; i < WR_BATCH; i++) {
        b->iov[i].iov_base = b->data[i];
        b->iov[i].iov_len = WR_DATAGRAM;
        b->head[i].msg_hdr.msg_iov = &b->iov[i];
        b->head[i].msg_hdr.msg_iovlen = 1;
        b->head[i].msg_hdr.msg_name = &b->from[i];
        b->head[i].msg_hdr.msg_control = b->control[i];
    }
    b->used = WR_BATCH;
    return b;
}

static inline unsigned char *wr_batch_data(wr_batch *b, int i, size_t *n) {
    *n = b->head[i].msg_len;
    return b->data[i];
}

/* datagrams received, or -errno */
static inline int wr_batch_receive(wr_batch *b, int fd) {
    for (int i = 0; i < b->used; i++) {
        b->head[i].msg_hdr.msg_namelen = sizeof b->from[i];
        b->head[i].msg_hdr.msg_controllen = WR_CONTROL;
    }
    int n = recvmmsg(fd, b->head, WR_BATCH, MSG_DONTWAIT, NULL);
    b->used = n < 0 ? 0 : n;
    return n < 0 ? -errno : n;
}

/* segment: size of the packets that the kernel gathered into this datagram, 0 = none; overflow: left alone if the kernel says nothing */
static inline void wr_batch_notes(wr_batch *b, int i, int *segment, uint32_t *overflow) {
    struct msghdr *m = &b->head[i].msg_hdr;
    *segment = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) memcpy(segment, CMSG_DATA(c), sizeof(int));
        else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL) memcpy(overflow, CMSG_DATA(c), sizeof(uint32_t));
    }
}

/* the sender's port in network order, and its address with IPv4 mapped into IPv6 */
static inline uint16_t wr_batch_sender(wr_batch *b, int i, unsigned char *address) {
    struct sockaddr_in6 *six = &b->from[i];
    struct sockaddr_in *four = (struct sockaddr_in *)six;
    if (six->sin6_family == AF_INET6) {
        memcpy(address, &six->sin6_addr, 16);
        return six->sin6_port;
    }
    memset(address, 0, 10);
    memset(address + 10, 255, 2);
    memcpy(address + 12, &four->sin_addr, 4);
    return four->sin_port;
}
#endif

/* The comparison that a C programmer would write: what the recorder does with a camera's bytes, in one thread and in batches.
 *
 * Every 40 ms: recv from all sockets, interleaved frames (RFC 2326 10.12), RTP, H.264 (RFC 6184) or H.265 (RFC 7798) payloads into length-prefixed
 * AUs, CRC-32C over each. Every 200 ms: whole pages to one file per camera, which is filled again from its start when it is full. Every 400 ms: one
 * syncfs, by a second thread. No index, no journal, no gaps, no reordering, no audio, no reconnect.
 *
 *   ingest FOLDER CODEC FILE_BYTES      reads "DESCRIPTOR SESSION URL" lines, one per camera that was set up, up to the end of its input
 *
 * The sockets are inherited; cameras play once the files are there. SIGTERM ends it: what waits is written, one JSON object is printed. Exit code 1 if a stream could not be understood.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../../recorder/_ext/crc32c.h"

enum { TICK_MS = 40, GATHER_TICKS = 5, SYNC_TICKS = 10, KEEPALIVE_TICKS = 500, PAGE = 4096, RECV_BYTES = 256 << 10, FRAME_MAX = 65540 };

typedef struct {
    int fd, file, alive;
    char session[64], url[200];
    unsigned char partial[FRAME_MAX]; /* a frame or message that a read has split */
    size_t held;
    unsigned char *gather; /* whole AUs, then the AU in the making */
    size_t room, used, whole, nal; /* nal: where the length of the NAL in the making stands, 0 = none */
    uint64_t at;                   /* file position of gather[0], before the ring's modulo */
    uint32_t crc;
    int next_seq; /* -1: none yet */
    uint64_t aus, bytes, lost, malformed;
} camera_t;

static volatile sig_atomic_t stopping;
static volatile int sync_wanted, sync_busy, folder_fd;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static uint64_t file_bytes;
static int h265;

static void on_signal(int number) { stopping = number; }

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void append(camera_t *c, const unsigned char *p, size_t n) {
    if (c->used + n > c->room) {
        while (c->used + n > c->room) c->room *= 2;
        if (!(c->gather = realloc(c->gather, c->room))) fail("memory");
    }
    memcpy(c->gather + c->used, p, n);
    c->used += n;
}

static void begin_nal(camera_t *c, const unsigned char *head, size_t n) {
    static const unsigned char none[4];
    append(c, none, 4);
    c->nal = c->used;
    append(c, head, n);
}

static void end_nal(camera_t *c) {
    if (!c->nal) return;
    uint32_t size = __builtin_bswap32((uint32_t)(c->used - c->nal));
    memcpy(c->gather + c->nal - 4, &size, 4);
    c->nal = 0;
}

static void end_au(camera_t *c) {
    end_nal(c);
    if (c->used == c->whole) return;
    c->crc = wr_crc32c(c->crc, c->gather + c->whole, c->used - c->whole);
    c->bytes += c->used - c->whole;
    c->whole = c->used;
    c->aus++;
}

static void one_nal(camera_t *c, const unsigned char *p, size_t n) {
    begin_nal(c, p, n);
    end_nal(c);
}

static void aggregate(camera_t *c, const unsigned char *p, size_t n) {
    while (n > 2) {
        size_t size = (size_t)p[0] << 8 | p[1];
        if (size == 0 || size + 2 > n) {
            c->malformed++;
            return;
        }
        one_nal(c, p + 2, size);
        p += size + 2;
        n -= size + 2;
    }
}

static void payload(camera_t *c, const unsigned char *p, size_t n) {
    if (n < (h265 ? 2u : 1u)) {
        c->malformed++;
        return;
    }
    int type = h265 ? p[0] >> 1 & 63 : p[0] & 31, skip = h265 ? 3 : 2;
    if (type == (h265 ? 48 : 24)) {
        aggregate(c, p + skip - 1, n - (size_t)(skip - 1));
    } else if (type == (h265 ? 49 : 28)) {
        int mark = n > (size_t)skip ? p[skip - 1] : -1;
        if (mark >= 0 && mark & 0x80) {
            unsigned char head[2] = {(unsigned char)(h265 ? (p[0] & 0x81) | (mark & 63) << 1 : (p[0] & 0xe0) | (mark & 31)), p[1]};
            end_nal(c);
            begin_nal(c, head, h265 ? 2 : 1);
        }
        if (!c->nal || mark < 0) {
            c->malformed++;
            return;
        }
        append(c, p + skip, n - (size_t)skip);
        if (mark & 0x40) end_nal(c);
    } else {
        one_nal(c, p, n);
    }
}

static void packet(camera_t *c, const unsigned char *p, size_t n) {
    if (n < 12 || p[0] >> 6 != 2) {
        c->malformed++;
        return;
    }
    size_t head = 12 + 4 * (size_t)(p[0] & 15);
    if (p[0] & 16 && n >= head + 4) head += 4 + 4 * ((size_t)p[head + 2] << 8 | p[head + 3]);
    size_t padding = p[0] & 32 ? p[n - 1] : 0;
    if (head + padding > n) {
        c->malformed++;
        return;
    }
    int seq = p[2] << 8 | p[3];
    if (c->next_seq >= 0 && seq != c->next_seq) c->lost += (uint16_t)(seq - c->next_seq);
    c->next_seq = (seq + 1) & 0xffff;
    payload(c, p + head, n - head - padding);
    if (p[1] & 0x80) end_au(c);
}

/* Bytes of the frame or message that begins at p; 0 if it is not whole; -1 if it is neither. */
static ssize_t unit(const unsigned char *p, size_t n) {
    if (p[0] == '$') {
        if (n < 4) return 0;
        size_t size = 4 + ((size_t)p[2] << 8 | p[3]);
        return n < size ? 0 : (ssize_t)size;
    }
    if (p[0] != 'R') return -1;
    const unsigned char *end = memmem(p, n, "\r\n\r\n", 4);
    return end ? end + 4 - p : 0;
}

/* Takes the whole units in p; returns how many bytes they are. */
static size_t units(camera_t *c, const unsigned char *p, size_t n) {
    size_t at = 0;
    while (at < n) {
        ssize_t size = unit(p + at, n - at);
        if (size < 0) c->alive = 0;
        if (size <= 0) break;
        if (p[at] == '$' && p[at + 1] == 0) packet(c, p + at + 4, (size_t)size - 4);
        at += (size_t)size;
    }
    return at;
}

static void feed(camera_t *c, const unsigned char *p, size_t n) {
    while (c->held && n) { /* complete what the last read has split: its length is known after four bytes */
        size_t want = c->held < 4 ? 4 - c->held : 1;
        if (c->held >= 4 && c->partial[0] == '$') want = 4 + ((size_t)c->partial[2] << 8 | c->partial[3]) - c->held;
        if (want > n) want = n;
        memcpy(c->partial + c->held, p, want);
        c->held += want;
        p += want;
        n -= want;
        if (units(c, c->partial, c->held)) c->held = 0;
        if (!c->alive || c->held == sizeof c->partial) {
            c->alive = 0;
            return;
        }
    }
    size_t taken = units(c, p, n);
    memcpy(c->partial, p + taken, n - taken);
    c->held = n - taken;
}

static void receive(camera_t *c, unsigned char *buffer) {
    ssize_t got;
    while (c->alive && (got = recv(c->fd, buffer, RECV_BYTES, MSG_DONTWAIT)) != 0) {
        if (got < 0) {
            if (errno == EINTR) continue;
            if (errno != EAGAIN) c->alive = 0;
            return;
        }
        feed(c, buffer, (size_t)got);
        if (got < RECV_BYTES) return;
    }
    c->alive = 0;
}

static void put(camera_t *c, size_t size) {
    for (size_t done = 0; done < size;) {
        uint64_t at = (c->at + done) % file_bytes;
        size_t part = size - done < file_bytes - at ? size - done : (size_t)(file_bytes - at);
        ssize_t n = pwrite(c->file, c->gather + done, part, (off_t)at);
        if (n < 0) fail("write");
        done += (size_t)n;
    }
}

static void write_pages(camera_t *c, int all) {
    size_t size = all ? c->whole : c->whole & ~(size_t)(PAGE - 1);
    if (!size) return;
    put(c, size);
    memmove(c->gather, c->gather + size, c->used - size);
    c->at += size;
    c->used -= size;
    c->whole -= size;
    if (c->nal) c->nal -= size;
}

static void *sync_loop(void *unused) {
    (void)unused;
    pthread_mutex_lock(&mutex);
    for (;;) {
        while (!sync_wanted) pthread_cond_wait(&wake, &mutex);
        sync_wanted = 0;
        sync_busy = 1;
        pthread_mutex_unlock(&mutex);
        if (syncfs(folder_fd)) fail("syncfs");
        pthread_mutex_lock(&mutex);
        sync_busy = 0;
    }
    return NULL;
}

static void want_sync(void) {
    pthread_mutex_lock(&mutex);
    if (!sync_busy) {
        sync_wanted = 1;
        pthread_cond_signal(&wake);
    }
    pthread_mutex_unlock(&mutex);
}

static void ask(camera_t *c, const char *method, int number) {
    char text[400];
    int n = snprintf(text, sizeof text, "%s %s RTSP/1.0\r\nCSeq: %d\r\nSession: %s\r\n\r\n", method, c->url, number, c->session);
    if (send(c->fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) != n) c->alive = 0;
}

/* A file of the size that it keeps, filled once, so that writing never has to find new blocks; past the page cache, as chunks come from a pool. */
static int make_file(const char *folder, int number) {
    char path[4096];
    static unsigned char zeros[1 << 20];
    snprintf(path, sizeof path, "%s/%04d", folder, number);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || posix_fallocate(fd, 0, (off_t)file_bytes)) fail(path);
    for (uint64_t at = 0; at < file_bytes; at += sizeof zeros)
        if (pwrite(fd, zeros, sizeof zeros, (off_t)at) != sizeof zeros) fail(path);
    if (fdatasync(fd) || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED)) fail(path);
    return fd;
}

static camera_t *make_camera(const char *folder, int number, int fd, const char *session, const char *url) {
    camera_t *c = calloc(1, sizeof *c);
    if (!c || !(c->gather = malloc(c->room = 256 << 10))) fail("memory");
    c->fd = fd;
    c->alive = 1;
    c->next_seq = -1;
    snprintf(c->session, sizeof c->session, "%s", session);
    snprintf(c->url, sizeof c->url, "%s", url);
    c->file = make_file(folder, number);
    return c;
}

static void tick(camera_t **cameras, int count, unsigned long number, unsigned char *buffer) {
    for (int i = 0; i < count; i++) {
        camera_t *c = cameras[i];
        receive(c, buffer);
        if ((number + (unsigned)i) % GATHER_TICKS == 0) write_pages(c, 0);
        if ((number + (unsigned)i) % KEEPALIVE_TICKS == 0) ask(c, "OPTIONS", (int)(number / KEEPALIVE_TICKS) + 10);
    }
    if (number % SYNC_TICKS == 0) want_sync();
}

static int report(camera_t **cameras, int count) {
    uint64_t aus = 0, bytes = 0, lost = 0, malformed = 0;
    int ended = 0;
    for (int i = 0; i < count; i++) {
        write_pages(cameras[i], 1);
        aus += cameras[i]->aus, bytes += cameras[i]->bytes, lost += cameras[i]->lost, malformed += cameras[i]->malformed;
        ended += !cameras[i]->alive;
    }
    printf("{\"aus\": %lu, \"bytes\": %lu, \"lost_packets\": %lu, \"malformed\": %lu, \"ended\": %d}\n", aus, bytes, lost, malformed, ended);
    return ended || malformed;
}

int main(int argc, char **argv) {
    static camera_t *cameras[4096];
    static unsigned char buffer[RECV_BYTES];
    char session[64], url[200];
    int count = 0, fd;
    if (argc != 4) return 2;
    wr_crc_setup();
    h265 = !strcmp(argv[2], "h265");
    file_bytes = strtoull(argv[3], NULL, 10);
    if ((folder_fd = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) fail(argv[1]);
    while (count < 4096 && scanf("%d %63s %199s", &fd, session, url) == 3) {
        cameras[count] = make_camera(argv[1], count, fd, session, url);
        count++;
    }
    if (syncfs(folder_fd)) fail("syncfs");
    for (int i = 0; i < count; i++) ask(cameras[i], "PLAY", 2);
    signal(SIGTERM, on_signal);
    pthread_t thread;
    if (pthread_create(&thread, NULL, sync_loop, NULL)) fail("thread");
    struct timespec due;
    clock_gettime(CLOCK_MONOTONIC, &due);
    for (unsigned long number = 1; !stopping; number++) {
        tick(cameras, count, number, buffer);
        due.tv_nsec += TICK_MS * 1000000L;
        if (due.tv_nsec >= 1000000000L) due.tv_sec++, due.tv_nsec -= 1000000000L;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
    }
    return report(cameras, count);
}

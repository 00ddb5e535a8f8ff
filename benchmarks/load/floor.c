/* floor - what sending costs at least: a Socket.IO server that does nothing else.
 *
 * One thread, epoll, libc only; WebSocket and two events, enough for sioload and for nobody else.  There are
 * no rooms, no JSON is read, no frame is checked, nobody is pinged, and every handshake gets the same answer.
 *
 *   broadcast   the frame is made once and goes to every member with one send() each
 *   --coalesce  broadcasts that came with one read go to every member with one send() for all of them
 *   echo        the payload goes back as the ack
 *
 * On SIGTERM it says on stdout what it did: {"deliveries":N,"sends":N,"waited":N}; `sends` are system calls made
 * for broadcasts, `waited` those that found a full socket, whose rest went later.
 *
 * Usage: floor [--coalesce] PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD_MAX 10                        /* bytes of the longest frame head that a server sends */
#define READ_SIZE (1u << 18)

typedef struct { char *p; size_t n, cap; } bytes;
typedef struct peer {
    int fd;
    int upgraded;
    long member;                           /* where in members, -1 before CONNECT */
    bytes unread, unsent;
} peer;

static int epoll, coalescing;
static peer **members;
static long n_members, cap_members;
static bytes batch;                        /* frames for all members; how many of them: */
static long batched;
static unsigned long long deliveries, sends, waited;
static volatile sig_atomic_t asked_to_end;

static void fail(const char *what) { perror(what); exit(1); }
static void add(bytes *b, const void *p, size_t n) {
    if (b->cap < b->n + n) {
        b->cap = (b->n + n) * 2;
        if (!(b->p = realloc(b->p, b->cap))) fail("realloc");
    }
    memcpy(b->p + b->n, p, n);
    b->n += n;
}
static void add_frame_head(bytes *b, size_t n) {
    unsigned char head[HEAD_MAX] = {0x81, (unsigned char)n};
    size_t size = 2;
    if (n > 125) {
        size_t length_bytes = n > 0xffff ? 8 : 2;
        head[1] = length_bytes == 8 ? 127 : 126;
        for (size_t i = length_bytes; i > 0; i--) head[size++] = (unsigned char)((uint64_t)n >> 8 * (i - 1));
    }
    add(b, head, size);
}

static void listen_to(peer *c, uint32_t events) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &e);
}
/* The peer stays allocated: events of this round may still name it. */
static void leave(peer *c) {
    if (c->fd < 0) return;
    close(c->fd);
    c->fd = -1;
    free(c->unread.p);
    free(c->unsent.p);
    c->unread = c->unsent = (bytes){0};
    if (c->member < 0) return;
    members[c->member] = members[--n_members];
    members[c->member]->member = c->member;
    c->member = -1;
}
static void give(peer *c, const char *p, size_t n) {
    ssize_t k = 0;
    if (c->fd < 0) return;
    if (!c->unsent.n && (k = send(c->fd, p, n, MSG_NOSIGNAL)) < 0) {
        if (errno != EAGAIN) { leave(c); return; }
        k = 0;
    }
    if ((size_t)k == n) return;
    waited++;
    if (!c->unsent.n) listen_to(c, EPOLLIN | EPOLLOUT);
    add(&c->unsent, p + k, n - (size_t)k);
}
static void give_rest(peer *c) {
    ssize_t k = send(c->fd, c->unsent.p, c->unsent.n, MSG_NOSIGNAL);
    if (k < 0) {
        if (errno != EAGAIN) leave(c);
        return;
    }
    c->unsent.n -= (size_t)k;
    memmove(c->unsent.p, c->unsent.p + k, c->unsent.n);
    if (!c->unsent.n) listen_to(c, EPOLLIN);
}
static void give_packet(peer *c, const char *a, size_t a_n, const char *b, size_t b_n) {
    static bytes frame;
    frame.n = 0;
    add_frame_head(&frame, a_n + b_n);
    add(&frame, a, a_n);
    add(&frame, b, b_n);
    give(c, frame.p, frame.n);
}
static void give_batch(void) {
    for (long i = n_members - 1; i >= 0; i--) give(members[i], batch.p, batch.n);   /* downwards: give() may remove i */
    sends += (unsigned long long)n_members;
    deliveries += (unsigned long long)(n_members * batched);
    batch.n = 0;
    batched = 0;
}

static void join(peer *c) {
    if (n_members == cap_members) {
        cap_members = cap_members ? cap_members * 2 : 1024;
        if (!(members = realloc(members, sizeof *members * (size_t)cap_members))) fail("realloc");
    }
    c->member = n_members;
    members[n_members++] = c;
    give_packet(c, "40{\"sid\":\"m\"}", 12, "", 0);
}
/* 40, 42["broadcast",DATA] or 42ID["echo",DATA]; anything else (pongs) says nothing to us. */
static void take_packet(peer *c, const char *p, size_t n) {
    if (n == 2 && !memcmp(p, "40", 2)) { join(c); return; }
    if (n < 3 || memcmp(p, "42", 2)) return;
    const char *array = memchr(p, '[', n), *data = array ? memchr(array, ',', (size_t)(p + n - array)) : NULL;
    if (!data) return;
    size_t data_n = (size_t)(p + n - ++data);      /* with the closing bracket */
    if (array > p + 2) {
        char ack[32];
        int k = snprintf(ack, sizeof ack, "43%.*s[", (int)(array - p - 2 > 20 ? 20 : array - p - 2), p + 2);
        give_packet(c, ack, (size_t)k, data, data_n);
        return;
    }
    add_frame_head(&batch, 13 + data_n);
    add(&batch, "42[\"message\",", 13);
    add(&batch, data, data_n);
    batched++;
    if (!coalescing) give_batch();
}
/* Bytes used of a request for an upgrade; sioload's key is the one of RFC 6455, so its answer is known. */
static size_t take_request(peer *c, const char *p, size_t n) {
    static const char ANSWER[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                 "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    static const char OPEN[] = "0{\"sid\":\"s\",\"upgrades\":[],\"pingInterval\":25000,\"pingTimeout\":20000,"
                               "\"maxPayload\":1000000}";
    const char *end = memmem(p, n, "\r\n\r\n", 4);
    if (!end) return 0;
    c->upgraded = 1;
    give(c, ANSWER, sizeof ANSWER - 1);
    give_packet(c, OPEN, sizeof OPEN - 1, "", 0);
    return (size_t)(end + 4 - p);
}
/* Bytes used of one masked frame, 0 when it is not whole yet; what it masks is unmasked in place. */
static size_t take_frame(peer *c, unsigned char *p, size_t n) {
    if (n < 2) return 0;
    size_t length = p[1] & 127, length_bytes = length == 127 ? 8 : length == 126 ? 2 : 0;
    if (n < 2 + length_bytes + 4) return 0;
    if (length_bytes) length = 0;
    for (size_t i = 0; i < length_bytes; i++) length = length << 8 | p[2 + i];
    unsigned char *mask = p + 2 + length_bytes, *data = mask + 4;
    if (n - (size_t)(data - p) < length) return 0;
    for (size_t i = 0; i < length; i++) data[i] ^= mask[i & 3];
    if ((p[0] & 15) == 8) leave(c);
    else if ((p[0] & 15) == 1) take_packet(c, (char *)data, length);
    return (size_t)(data - p) + length;
}
static void take_bytes(peer *c) {
    static char input[READ_SIZE];
    ssize_t k = recv(c->fd, input, sizeof input, 0);
    if (k <= 0) {
        if (k == 0 || errno != EAGAIN) leave(c);
        return;
    }
    char *p = input;
    size_t n = (size_t)k, at = 0, used = 1;
    if (c->unread.n) {
        add(&c->unread, input, n);
        p = c->unread.p;
        n = c->unread.n;
    }
    while (c->fd >= 0 && at < n && used) {
        used = c->upgraded ? take_frame(c, (unsigned char *)p + at, n - at) : take_request(c, p + at, n - at);
        at += used;
    }
    if (c->fd >= 0 && p == c->unread.p) {
        memmove(p, p + at, n - at);
        c->unread.n = n - at;
    } else if (c->fd >= 0 && at < n) {
        add(&c->unread, p + at, n - at);
    }
    if (batched) give_batch();
}
static void take_connections(int listening) {
    int fd, one = 1;
    while ((fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        peer *c = calloc(1, sizeof *c);
        if (!c) fail("calloc");
        c->fd = fd;
        c->member = -1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
    }
}
static int listening_on(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (void *)&address, sizeof address) || listen(fd, 1024)) fail("listen");
    return fd;
}
static void end(int number) { (void)number; asked_to_end = 1; }

int main(int argc, char **argv) {
    coalescing = argc == 3 && !strcmp(argv[1], "--coalesce");
    if (argc != 2 + coalescing) {
        fputs("Usage: floor [--coalesce] PORT\n", stderr);
        return 2;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    struct sigaction ending = {.sa_handler = end};
    sigaction(SIGTERM, &ending, NULL);

    int listening = listening_on(atoi(argv[argc - 1]));
    epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event events[512], e = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll, EPOLL_CTL_ADD, listening, &e);
    while (!asked_to_end) {
        int n = epoll_wait(epoll, events, 512, 200);
        for (int i = 0; i < n; i++) {
            peer *c = events[i].data.ptr;
            if (!c) { take_connections(listening); continue; }
            if (c->fd >= 0 && events[i].events & EPOLLOUT) give_rest(c);
            if (c->fd >= 0 && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) take_bytes(c);
        }
    }
    printf("{\"deliveries\":%llu,\"sends\":%llu,\"waited\":%llu}\n", deliveries, sends, waited);
    return 0;
}

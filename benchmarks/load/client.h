/* What a client is: one or two TCP connections and its bookkeeping; and what all of them share. */
#ifndef CLIENT_H
#define CLIENT_H
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "options.h"

#define SEC 1000000000ull
#define SEPARATOR 0x1e                     /* between packets of a payload; after records of a stream */

enum { NEW, UPGRADING, OPEN, JOINING, READY, DEAD };   /* JOINING: Socket.IO CONNECT was sent */

typedef struct { char *p; size_t n, cap; } buffer;
typedef struct client client;

typedef struct tcp {
    client *owner;
    int fd;
    uint32_t generation;                   /* which connection this is: fd numbers are reused */
    uint8_t connected, wants_out;
    buffer in;                             /* unparsed input */
    buffer out; size_t out_at;             /* unsent output */
} tcp;

struct client {
    uint32_t id;
    uint8_t state, transport, publisher, side, opening;
    tcp main;                              /* WebSocket, polling (GET and POST), or the stream */
    tcp up;                                /* xhr-streaming: POSTs */
    uint8_t request;                       /* polling: what main waits for; streaming: what up waits for */
    buffer queue;                          /* packets for the next POST */
    buffer partial;                        /* fragmented message, or record, so far */
    uint8_t deflate, partial_deflated;     /* WebSocket: agreed on; the fragmented message is compressed */
    char sid[64];
    uint64_t started;                      /* when the connect began */

    uint8_t body; uint64_t body_left;      /* streaming: where in the response, see streaming.h */
    uint8_t body_closes;                   /* streaming: the connection ends with the response */
    uint64_t records;                      /* streaming: received whole */

    int64_t max_seq; uint64_t seen, got;   /* broadcast: highest number, the 64 below it, how many */
    uint64_t *echo_sent, *echo_id, echo_next;   /* echo slots, if any: send time (0 free), ack id */
};

static client *clients;
static int total, opened, ready, opening, failed, disconnects, target;
static int running;                        /* disconnects count from here on */
static uint64_t errors, pings, stream_responses, inflated, received_bytes, window_bytes;

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SEC + (uint64_t)t.tv_nsec;
}
__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *f, ...) {
    va_list a;
    va_start(a, f);
    vfprintf(stderr, f, a);
    va_end(a);
    fputc('\n', stderr);
    exit(2);
}
/* The server did something that it must not; the text may be binary. */
static void complain(const char *what, const char *p, size_t n) {
    static int told;
    errors++;
    if (o_verbose || told++ < 5) fprintf(stderr, "sioload: %s: %.*s\n", what, (int)(n > 200 ? 200 : n), p);
}
static char *reserve(buffer *b, size_t need) {
    if (b->cap >= need) return b->p;
    size_t cap = b->cap ? b->cap : 256;
    while (cap < need) cap *= 2;
    if (!(b->p = realloc(b->p, cap))) die("out of memory");
    b->cap = cap;
    return b->p;
}
static void append(buffer *b, const char *p, size_t n) {
    reserve(b, b->n + n);
    memcpy(b->p + b->n, p, n);
    b->n += n;
}
static int port_of(const client *c) {
    if (c->publisher && o_pub_port) return o_pub_port;
    return o_second_port && c->id % 2 ? o_second_port : o_port;
}

/* sockets.h */
static void client_lost(client *c, const char *why);
static void tcp_open(tcp *s);
static void tcp_close(tcp *s);
static void tcp_write(tcp *s, const char *p, size_t n);
/* sioload.c */
static void send_packet(client *c, const char *p, size_t n);
static void on_packet(client *c, const char *p, size_t n, uint64_t t);
static void on_connected(tcp *s);
#endif

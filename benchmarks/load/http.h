/* Reading HTTP/1.x responses. */
#ifndef HTTP_H
#define HTTP_H
#include <strings.h>

#include "client.h"

enum { NO_REQUEST, GET, POST };

typedef struct {
    size_t size;                           /* bytes up to and including the empty line */
    int status, chunked, closes;
    long length;                           /* Content-Length, -1 when not said */
} http_head;

/* 0 when more bytes are needed. */
static int http_parse_head(const char *p, size_t n, http_head *h) {
    const char *end = memmem(p, n, "\r\n\r\n", 4);
    if (!end) return 0;
    *h = (http_head){.size = (size_t)(end + 4 - p), .status = n > 12 ? atoi(p + 9) : 0, .length = -1};
    h->closes = !strncmp(p, "HTTP/1.0", 8);
    for (const char *l = memmem(p, n, "\r\n", 2); l && l < end; l = memmem(l + 2, (size_t)(end - l), "\r\n", 2)) {
        const char *name = l + 2;
        if (!strncasecmp(name, "content-length:", 15)) h->length = atol(name + 15);
        else if (!strncasecmp(name, "transfer-encoding: chunked", 26)) h->chunked = 1;
        else if (!strncasecmp(name, "connection: close", 17)) h->closes = 1;
        else if (!strncasecmp(name, "connection: keep-alive", 22)) h->closes = 0;
    }
    return 1;
}
/* One whole response from p[0..n): bytes used, or 0 when more is needed.  The body stays valid until the next call. */
static size_t http_whole(char *p, size_t n, http_head *h, char **body, size_t *body_n) {
    static buffer joined;
    if (!http_parse_head(p, n, h)) return 0;
    char *q = p + h->size, *end = p + n;
    if (!h->chunked) {
        *body = q;
        *body_n = h->length > 0 ? (size_t)h->length : 0;
        return (size_t)(end - q) < *body_n ? 0 : h->size + *body_n;
    }
    joined.n = 0;
    for (;;) {
        char *line = memmem(q, (size_t)(end - q), "\r\n", 2);
        if (!line) return 0;
        size_t k = strtoul(q, NULL, 16);
        if ((size_t)(end - (line + 2)) < k + 2) return 0;
        append(&joined, line + 2, k);
        q = line + 2 + k + 2;
        if (!k) break;
    }
    *body = joined.p;
    *body_n = joined.n;
    return (size_t)(q - p);
}
/* Send what is queued as one POST. */
static void http_post(client *c, tcp *s, const char *transport) {
    static buffer b;
    int n = snprintf(reserve(&b, c->queue.n + 1024), 1024,
        "POST %s?EIO=4&transport=%s&sid=%s HTTP/1.1\r\nHost: %s:%d\r\n"
        "Content-Type: text/plain;charset=UTF-8\r\nContent-Length: %zu\r\n\r\n",
        o_path, transport, c->sid, o_host, port_of(c), c->queue.n);
    memcpy(b.p + n, c->queue.p, c->queue.n);
    size_t all = (size_t)n + c->queue.n;
    c->queue.n = 0;
    c->request = POST;
    tcp_write(s, b.p, all);
}
static void queue_packet(client *c, const char *p, size_t n) {
    const char separator = SEPARATOR;
    if (c->queue.n) append(&c->queue, &separator, 1);
    append(&c->queue, p, n);
}
#endif

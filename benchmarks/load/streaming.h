/* xhr-streaming: one response stays open and carries records; POSTs go over a second connection.
 *
 *   main   GET [sid, ack] ──► head ─► records, each ended by U+001E ─► end of the body ─► next GET
 *   up     POST ──► whole response ─► next POST if packets waited          (keep-alive)
 *
 * The body is chunked, counted, or ends with the connection; records may be split anywhere within a
 * response but never over two.  With --stream-ack a response that is cut is asked for again from the
 * last whole record; without it, that is the end of the client.
 */
#ifndef STREAMING_H
#define STREAMING_H
#include "http.h"

enum { HEAD, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILER, COUNTED, TO_EOF };

static void stream_get(client *c) {
    char b[1024], sid[96] = "", ack[48] = "";
    if (c->sid[0]) snprintf(sid, sizeof sid, "&sid=%s", c->sid);
    if (o_stream_ack) snprintf(ack, sizeof ack, "&ack=%llu", (unsigned long long)c->records);
    int n = snprintf(b, sizeof b, "GET %s?EIO=4&transport=xhr-streaming%s%s HTTP/1.1\r\nHost: %s:%d\r\n\r\n",
                     o_path, sid, ack, o_host, port_of(c));
    c->body = HEAD;
    c->partial.n = 0;
    stream_responses++;
    tcp_write(&c->main, b, (size_t)n);
}
static void stream_post(client *c) {
    if (c->state == DEAD || !c->queue.n || c->request != NO_REQUEST) return;
    if (c->up.fd < 0) tcp_open(&c->up);
    else if (c->up.connected) http_post(c, &c->up, "xhr-streaming");
}

static void stream_bytes(client *c, char *p, size_t n, uint64_t t) {
    while (n && c->state != DEAD) {
        char *s = memchr(p, SEPARATOR, n);
        if (!s) { append(&c->partial, p, n); return; }
        size_t k = (size_t)(s - p);
        c->records++;
        if (c->partial.n) {
            append(&c->partial, p, k);
            k = c->partial.n;
            c->partial.n = 0;
            on_packet(c, c->partial.p, k, t);
        } else {
            on_packet(c, p, k, t);
        }
        n -= (size_t)(s + 1 - p);
        p = s + 1;
    }
}
static void stream_ended(client *c) {
    if (c->partial.n) complain("record cut by the end of a response", c->partial.p, c->partial.n);
    if (c->body_closes) { tcp_close(&c->main); tcp_open(&c->main); }
    else stream_get(c);
}
/* The head of a response: how the body will end.  Bytes used, 0 when more is needed. */
static size_t stream_head(client *c, char *p, size_t n) {
    http_head h;
    if (!http_parse_head(p, n, &h)) return 0;
    if (h.status != 200) {
        complain("HTTP status", p, n);
        client_lost(c, "http status");
        return h.size;
    }
    c->body = h.chunked ? CHUNK_SIZE : h.length >= 0 ? COUNTED : TO_EOF;
    c->body_left = h.length > 0 ? (uint64_t)h.length : 0;
    c->body_closes = (uint8_t)(h.closes || c->body == TO_EOF);
    if (h.length == 0 && !h.chunked) stream_ended(c);
    return h.size;
}
/* One line of chunked framing: bytes used, 0 when more is needed. */
static size_t stream_line(client *c, char *p, size_t n) {
    char *end = memmem(p, n, "\r\n", 2);
    if (!end) return 0;
    if (c->body == CHUNK_SIZE) {
        char *digits;
        c->body_left = strtoull(p, &digits, 16);
        if (digits == p) {
            complain("bad chunk size", p, n);
            client_lost(c, "bad chunk");
        }
        c->body = c->body_left ? CHUNK : TRAILER;
    } else if (c->body == CHUNK_END) {
        if (end != p) { complain("bad chunk end", p, n); client_lost(c, "bad chunk"); }
        c->body = CHUNK_SIZE;
    } else if (end == p) {                 /* the empty line after the trailer */
        stream_ended(c);
    }
    return (size_t)(end + 2 - p);
}
static size_t stream_input(client *c, char *p, size_t n, uint64_t t) {
    size_t pos = 0;
    uint32_t generation = c->main.generation;
    while (pos < n && c->main.generation == generation) {
        size_t used;
        if (c->body == HEAD) {
            if (!(used = stream_head(c, p + pos, n - pos))) break;
        } else if (c->body == CHUNK || c->body == COUNTED || c->body == TO_EOF) {
            used = n - pos;
            if (c->body != TO_EOF) {
                if (used > c->body_left) used = (size_t)c->body_left;
                c->body_left -= used;
            }
            stream_bytes(c, p + pos, used, t);
            if (c->state == DEAD) break;
            if (c->body == CHUNK && !c->body_left) c->body = CHUNK_END;
            else if (c->body == COUNTED && !c->body_left) stream_ended(c);
        } else if (!(used = stream_line(c, p + pos, n - pos))) {
            break;
        }
        pos += used;
    }
    return pos;
}
static void stream_eof(client *c) {
    if (c->body == TO_EOF && !c->partial.n) { stream_ended(c); return; }
    if (!o_stream_ack || !c->sid[0]) { client_lost(c, "response cut"); return; }
    tcp_close(&c->main);
    tcp_open(&c->main);
}

static size_t upstream_input(client *c, char *p, size_t n) {
    http_head h;
    char *body;
    size_t body_n, used;
    if (c->request == NO_REQUEST) {
        complain("response nobody asked for", p, n);
        client_lost(c, "protocol");
        return n;
    }
    if (!(used = http_whole(p, n, &h, &body, &body_n))) return 0;
    if (h.status != 200) {
        complain("HTTP status", p, n);
        client_lost(c, "http status");
        return used;
    }
    c->request = NO_REQUEST;
    if (h.closes) tcp_close(&c->up);
    stream_post(c);
    return used;
}
static void upstream_eof(client *c) {
    if (c->request != NO_REQUEST) { client_lost(c, "POST got no answer"); return; }
    tcp_close(&c->up);
    stream_post(c);
}
#endif

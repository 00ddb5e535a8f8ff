/* The client side of RFC 6455: masked frames; permessage-deflate (RFC 7692) with --deflate. */
#ifndef WEBSOCKET_H
#define WEBSOCKET_H
#include "client.h"
#include "inflate.h"

#define WS_KEY "dGhlIHNhbXBsZSBub25jZQ=="            /* RFC 6455 sample key ... */
#define WS_ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="      /* ... and its known answer */
#define WS_DEFLATE "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
enum { OP_CONTINUATION = 0, OP_TEXT = 1, OP_BINARY = 2, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 };

static void ws_open(client *c) {
    char b[1024];
    int n = snprintf(b, sizeof b,
        "GET %s?EIO=4&transport=websocket HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: " WS_KEY "\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
        o_path, o_host, port_of(c), o_deflate ? "Sec-WebSocket-Extensions: " WS_DEFLATE "\r\n" : "");
    c->state = UPGRADING;
    tcp_write(&c->main, b, (size_t)n);
}
static void ws_frame(client *c, int op, const char *p, size_t n) {
    static buffer frame;
    static uint64_t rng = 88172645463325252ull;
    char *f = reserve(&frame, n + 14);
    size_t h = 2;
    f[0] = (char)(0x80 | op);
    if (n < 126) {
        f[1] = (char)(0x80 | n);
    } else if (n < 65536) {
        f[1] = (char)(0x80 | 126);
        f[2] = (char)(n >> 8);
        f[3] = (char)n;
        h = 4;
    } else {
        f[1] = (char)(0x80 | 127);
        for (int i = 0; i < 8; i++) f[2 + i] = (char)((uint64_t)n >> (56 - 8 * i));
        h = 10;
    }
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    char mask[4];
    memcpy(mask, &rng, 4);
    memcpy(f + h, mask, 4);
    h += 4;
    uint64_t wide, word;
    memcpy(&wide, mask, 4);
    memcpy((char *)&wide + 4, mask, 4);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {           /* eight at a time: megabytes are sent too */
        memcpy(&word, p + i, 8);
        word ^= wide;
        memcpy(f + h + i, &word, 8);
    }
    for (; i < n; i++) f[h + i] = (char)(p[i] ^ mask[i & 3]);
    tcp_write(&c->main, f, h + n);
}
static void ws_refuse(client *c, const char *what) {
    complain(what, "", 0);
    client_lost(c, what);
}
static void ws_message(client *c, char *p, size_t n, int deflated, uint64_t t) {
    if (deflated && !inflate_message(&p, &n)) { ws_refuse(c, "broken compressed message"); return; }
    inflated += (uint64_t)deflated;
    on_packet(c, p, n, t);
}
/* Bytes used of p[0..n). */
static size_t ws_frames(client *c, char *p, size_t n, uint64_t t) {
    size_t pos = 0;
    while (c->main.fd >= 0 && n - pos >= 2) {
        unsigned char *h = (unsigned char *)p + pos;
        size_t head = 2;
        uint64_t len = h[1] & 0x7f;
        if (h[1] & 0x80) { ws_refuse(c, "masked frame from server"); break; }
        int fin = h[0] & 0x80, op = h[0] & 15, deflated = (h[0] & 0x40) != 0;
        int begins = op == OP_TEXT || op == OP_BINARY;
        if (h[0] & 0x30 || (deflated && !(c->deflate && begins))) { ws_refuse(c, "reserved bits set"); break; }
        if (len == 126) {
            if (n - pos < 4) break;
            len = (uint64_t)h[2] << 8 | h[3];
            head = 4;
        } else if (len == 127) {
            if (n - pos < 10) break;
            len = 0;
            for (int i = 0; i < 8; i++) len = len << 8 | h[2 + i];
            head = 10;
        }
        if (n - pos - head < len) break;
        char *data = p + pos + head;
        pos += head + len;
        if (op == OP_CLOSE) { client_lost(c, "close frame"); break; }
        if (op == OP_PING) { ws_frame(c, OP_PONG, data, len); continue; }
        if (op == OP_TEXT && fin) { ws_message(c, data, len, deflated, t); continue; }
        if (op > OP_BINARY) continue;
        if (begins) c->partial_deflated = (uint8_t)deflated;
        append(&c->partial, data, len);
        if (fin) {
            if (op != OP_BINARY) ws_message(c, c->partial.p, c->partial.n, c->partial_deflated, t);
            c->partial.n = 0;
        }
    }
    return pos;
}
/* One inflater serves every client, so the server must have promised to begin each message afresh. */
static int ws_agreed(client *c, const char *p, size_t n) {
    c->deflate = memmem(p, n, "permessage-deflate", 18) && memmem(p, n, "server_no_context_takeover", 26);
    return c->deflate == o_deflate;
}
static size_t ws_input(client *c, char *p, size_t n, uint64_t t) {
    size_t pos = 0;
    if (c->state == UPGRADING) {
        char *end = memmem(p, n, "\r\n\r\n", 4);
        if (!end) return 0;
        if (memcmp(p, "HTTP/1.1 101", 12) || !memmem(p, (size_t)(end - p), WS_ACCEPT, 28)) {
            complain("upgrade refused", p, n);
            client_lost(c, "upgrade refused");
            return n;
        }
        if (!ws_agreed(c, p, (size_t)(end - p))) {
            complain("compression was offered and not agreed on, or the other way round", p, n);
            client_lost(c, "compression");
            return n;
        }
        pos = (size_t)(end + 4 - p);
        c->state = OPEN;
    }
    return pos + ws_frames(c, p + pos, n - pos, t);
}
#endif

/* HTTP long-polling over one keep-alive connection: a client sends between its polls. */
#ifndef POLLING_H
#define POLLING_H
#include "http.h"

static void polling_request(client *c) {   /* the next one, unless one is under way */
    if (c->state == DEAD || !c->main.connected || c->request != NO_REQUEST) return;
    if (c->queue.n) { http_post(c, &c->main, "polling"); return; }
    char b[1024], sid[96] = "";
    if (c->sid[0]) snprintf(sid, sizeof sid, "&sid=%s", c->sid);
    int n = snprintf(b, sizeof b, "GET %s?EIO=4&transport=polling%s HTTP/1.1\r\nHost: %s:%d\r\n\r\n",
                     o_path, sid, o_host, port_of(c));
    c->request = GET;
    tcp_write(&c->main, b, (size_t)n);
}
static void polling_payload(client *c, char *p, size_t n, uint64_t t) {
    for (size_t at = 0; at < n && c->state != DEAD;) {
        char *s = memchr(p + at, SEPARATOR, n - at);
        size_t k = s ? (size_t)(s - (p + at)) : n - at;
        on_packet(c, p + at, k, t);
        at += k + 1;
    }
}
static size_t polling_input(client *c, char *p, size_t n, uint64_t t) {
    size_t pos = 0;
    uint32_t generation = c->main.generation;
    while (pos < n && c->main.generation == generation) {
        http_head h;
        char *body;
        size_t body_n, used;
        if (c->request == NO_REQUEST) {
            complain("response nobody asked for", p + pos, n - pos);
            client_lost(c, "protocol");
            break;
        }
        if (!(used = http_whole(p + pos, n - pos, &h, &body, &body_n))) break;
        pos += used;
        if (h.status != 200) {
            complain("HTTP status", p, n);
            client_lost(c, "http status");
            break;
        }
        if (c->request == GET) polling_payload(c, body, body_n, t);   /* request still set: nothing is sent yet */
        c->request = NO_REQUEST;
        if (c->state == DEAD) break;
        if (h.closes) { tcp_close(&c->main); tcp_open(&c->main); }
        else polling_request(c);
    }
    return pos;
}
static void polling_eof(client *c) {
    if (c->request != NO_REQUEST) { client_lost(c, "server closed the connection"); return; }
    tcp_close(&c->main);
    tcp_open(&c->main);
}
#endif

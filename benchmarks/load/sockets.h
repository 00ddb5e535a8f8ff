/* Non-blocking TCP connections on one epoll. */
#ifndef SOCKETS_H
#define SOCKETS_H
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client.h"

static int epoll;

static void watch_output(tcp *s, int on) {
    if (s->wants_out == on) return;
    struct epoll_event e = {.events = EPOLLIN | (on ? EPOLLOUT : 0), .data.ptr = s};
    epoll_ctl(epoll, EPOLL_CTL_MOD, s->fd, &e);
    s->wants_out = (uint8_t)on;
}
static void tcp_close(tcp *s) {
    if (s->fd >= 0) close(s->fd);
    s->fd = -1;
    s->connected = 0;
    s->generation++;
}
static void tcp_open(tcp *s) {
    client *c = s->owner;
    struct sockaddr_in a = {.sin_family = AF_INET};
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0) { client_lost(c, strerror(errno)); return; }
    int one = 1;
    setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (o_source_ips > 0) {
        setsockopt(s->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        a.sin_addr.s_addr = htonl(0x7f000001u + c->id % (uint32_t)o_source_ips);
        if (bind(s->fd, (void *)&a, sizeof a)) { client_lost(c, "bind"); return; }
    }
    inet_pton(AF_INET, o_host, &a.sin_addr);
    a.sin_port = htons((uint16_t)port_of(c));
    s->generation++;
    s->connected = 0;
    s->wants_out = 1;
    s->in.n = s->out.n = s->out_at = 0;
    if (connect(s->fd, (void *)&a, sizeof a) && errno != EINPROGRESS) { client_lost(c, strerror(errno)); return; }
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = s};
    epoll_ctl(epoll, EPOLL_CTL_ADD, s->fd, &e);
}
static void tcp_write(tcp *s, const char *p, size_t n) {
    if (s->fd < 0) return;
    if (s->out.n == s->out_at) {
        ssize_t k = send(s->fd, p, n, MSG_NOSIGNAL);
        if (k < 0) {
            if (errno != EAGAIN && errno != EINTR) { client_lost(s->owner, strerror(errno)); return; }
            k = 0;
        }
        if ((size_t)k == n) return;
        p += k;
        n -= (size_t)k;
        s->out.n = s->out_at = 0;
    }
    if (s->out.n + n > (256u << 20)) die("client %u: over 256 MiB unsent, giving up", s->owner->id);
    append(&s->out, p, n);
    watch_output(s, 1);
}
static void tcp_flush(tcp *s) {
    while (s->out_at < s->out.n) {
        ssize_t k = send(s->fd, s->out.p + s->out_at, s->out.n - s->out_at, MSG_NOSIGNAL);
        if (k < 0) {
            if (errno != EAGAIN && errno != EINTR) client_lost(s->owner, strerror(errno));
            return;
        }
        s->out_at += (size_t)k;
    }
    s->out.n = s->out_at = 0;
    watch_output(s, 0);
}

static void client_start(client *c) {
    c->started = now();
    c->state = NEW;
    c->opening = 1;
    opening++;
    tcp_open(&c->main);
}
/* Close without counting it: the client itself is done. */
static void client_leave(client *c) {
    tcp_close(&c->main);
    tcp_close(&c->up);
    if (c->state == READY) ready--;
    c->state = DEAD;
}
static void client_lost(client *c, const char *why) {
    static int told;
    if (c->state == DEAD) return;
    if (c->state == READY) {
        if (running) disconnects++;
        if (running && (o_verbose || told++ < 3)) fprintf(stderr, "sioload: client %u dropped: %s\n", c->id, why);
    } else if (failed++ < 3 || o_verbose) {
        fprintf(stderr, "sioload: client %u failed in state %d: %s\n", c->id, c->state, why);
    }
    client_leave(c);
    if (c->opening) { c->opening = 0; opening--; }
}
#endif

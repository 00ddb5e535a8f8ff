/* sioload - load generator for Socket.IO v5 over Engine.IO v4 servers.
 *
 * One thread, epoll, libc and zlib.  Plays the client side over WebSocket, HTTP long-polling and
 * xhr-streaming, and prints one JSON line.  See README.md.
 *
 *   options.h    the command line                websocket.h  RFC 6455
 *   usage.h      what the server used            polling.h    long-polling     } over http.h
 *   histogram.h  latencies                       streaming.h  xhr-streaming    }
 *   client.h     a client; shared state          workload.h   echoes, broadcasts and their counts
 *   sockets.h    its connections                 inflate.h    compressed messages, for websocket.h
 *
 * Build:  make
 */
#define _GNU_SOURCE
#include <signal.h>

#include "client.h"
#include "histogram.h"
#include "options.h"
#include "polling.h"
#include "sockets.h"
#include "streaming.h"
#include "usage.h"
#include "websocket.h"
#include "workload.h"

/* ---- packets ---- */
static void send_packet(client *c, const char *p, size_t n) {
    if (c->transport == WEBSOCKET) { ws_frame(c, OP_TEXT, p, n); return; }
    queue_packet(c, p, n);
    if (c->transport == STREAMING) stream_post(c);
    else polling_request(c);
}
static void on_open_packet(client *c, const char *p, size_t n) {
    const char *q = memmem(p, n, "\"sid\":", 6), *end = p + n;
    size_t k = 0;
    if (q) {
        for (q += 6; q < end && (*q == ' ' || *q == '"'); q++) ;
        while (q < end && *q != '"' && k < sizeof c->sid - 1) c->sid[k++] = *q++;
    }
    c->sid[k] = 0;
    if (!k) { complain("open packet without sid", p, n); return; }
    c->state = JOINING;
    send_packet(c, "40", 2);
}
static void on_joined(client *c, uint64_t t) {
    if (c->state != JOINING) return;
    c->state = READY;
    ready++;
    c->opening = 0;
    opening--;
    if (o_mode != CONNECT) return;
    hist_add(t - c->started);
    if (o_close) client_leave(c);
}
static void on_packet(client *c, const char *p, size_t n, uint64_t t) {
    if (!n) return;
    switch (p[0]) {
    case '0': on_open_packet(c, p, n); return;
    case '1': client_lost(c, "server sent close"); return;
    case '2': pings++; send_packet(c, "3", 1); return;
    case '3': case '6': return;
    case '4':
        if (n < 2) break;
        switch (p[1]) {
        case '0': on_joined(c, t); return;
        case '1': client_lost(c, "server sent disconnect"); return;
        case '2': on_message(c, p + 2, n - 2, t); return;
        case '3': on_ack(c, p + 2, n - 2, t); return;
        case '4': complain("connect refused", p, n); client_lost(c, "connect error"); return;
        }
    }
    complain("unexpected packet", p, n);
}

/* ---- event loop ---- */
static void on_connected(tcp *s) {
    client *c = s->owner;
    s->connected = 1;
    watch_output(s, 0);
    if (s == &c->up) { stream_post(c); return; }
    if (c->transport == WEBSOCKET) { ws_open(c); return; }
    if (c->state == NEW) c->state = OPEN;
    if (c->transport == STREAMING) stream_get(c);
    else polling_request(c);
}
static void on_eof(tcp *s) {
    client *c = s->owner;
    if (s == &c->up) upstream_eof(c);
    else if (c->transport == POLLING) polling_eof(c);
    else if (c->transport == STREAMING) stream_eof(c);
    else client_lost(c, "server closed the connection");
}
static void on_readable(tcp *s) {
    static buffer input;                   /* shared: what a connection leaves unparsed moves to s->in */
    client *c = s->owner;
    size_t n = s->in.n, used;
    reserve(&input, n + (1 << 20));
    ssize_t k = recv(s->fd, input.p + n, input.cap - n, 0);
    if (k < 0) {
        if (errno != EAGAIN && errno != EINTR) client_lost(c, strerror(errno));
        return;
    }
    if (k == 0) { on_eof(s); return; }
    uint64_t t = now();
    uint32_t generation = s->generation;
    received_bytes += (uint64_t)k;
    if (in_window(t)) window_bytes += (uint64_t)k;
    if (n) memcpy(input.p, s->in.p, n);
    n += (size_t)k;
    s->in.n = 0;
    if (s == &c->up) used = upstream_input(c, input.p, n);
    else if (c->transport == WEBSOCKET) used = ws_input(c, input.p, n, t);
    else if (c->transport == POLLING) used = polling_input(c, input.p, n, t);
    else used = stream_input(c, input.p, n, t);
    if (s->fd < 0 || s->generation != generation) return;
    if (used < n) {
        append(&s->in, input.p + used, n - used);
    } else if (s->in.cap > 65536) {
        free(s->in.p);
        s->in = (buffer){0};
    }
}
static void turn(int64_t wait_ns) {        /* one round */
    static struct epoll_event events[1024];
    struct timespec wait = {wait_ns / (int64_t)SEC, wait_ns % (int64_t)SEC};
    int n = epoll_pwait2(epoll, events, 1024, &wait, NULL);
    for (int i = 0; i < n; i++) {
        tcp *s = events[i].data.ptr;
        if (s->fd < 0) continue;
        if (!s->connected) {
            if (!(events[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) continue;
            int error = 0;
            socklen_t size = sizeof error;
            getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &size);
            if (error) client_lost(s->owner, strerror(error));
            else on_connected(s);
            continue;
        }
        if (events[i].events & EPOLLOUT) tcp_flush(s);
        if (s->fd >= 0 && events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) on_readable(s);
    }
    while (opened < target && opening < o_concurrency) client_start(&clients[opened++]);
}
static void open_until(int count) {
    uint64_t deadline = now() + (uint64_t)(o_connect_deadline * 1e9);
    target = count;
    while ((opened < target || opening > 0) && now() < deadline) turn(50000000);
    if (opening > 0) fprintf(stderr, "sioload: %d clients still connecting at the deadline\n", opening);
}
static void run_for(double seconds) {
    uint64_t end = now() + (uint64_t)(seconds * 1e9), t;
    while ((t = now()) < end) turn(end - t < 50000000 ? (int64_t)(end - t) : 50000000);
}

/* ---- the result ---- */
static void put(const char *key, double value, int digits) { printf(",\"%s\":%.*f", key, digits, value); }
static void put_count(const char *key, uint64_t value) { printf(",\"%s\":%llu", key, (unsigned long long)value); }
static void put_per(const char *what, const char *unit, double seconds, double units) {
    char key[64];
    if (units <= 0) return;
    snprintf(key, sizeof key, "%s_us_per_%s", what, unit);
    put(key, 1e6 * seconds / units, 3);
}
static void put_latency(void) {
    put("lat_p50_us", hist_quantile_us(.5), 1);
    put("lat_p90_us", hist_quantile_us(.9), 1);
    put("lat_p99_us", hist_quantile_us(.99), 1);
    put("lat_p999_us", hist_quantile_us(.999), 1);
    put("lat_max_us", (double)hist_max / 1e3, 1);
    put("lat_mean_us", hist_n ? hist_sum / (double)hist_n / 1e3 : 0, 1);
}
static void put_usage(const usage *a, const usage *b, double seconds, double units, const char *unit) {
    if (o_server_pid > 0) {
        put("server_cpu_s", b->cpu - a->cpu, 3);
        put("server_user_s", b->user - a->user, 2);
        put("server_sys_s", b->sys - a->sys, 2);
        put("server_cpu_pct", 100 * (b->cpu - a->cpu) / seconds, 1);
        put_per("cpu", unit, b->cpu - a->cpu, units);
        put("server_rss_kb", (double)b->rss, 0);
    }
    if (o_server_core >= 0) {
        put("core_busy_pct", 100 * (b->core - a->core) / seconds, 1);
        put("core_softirq_pct", 100 * (b->softirq - a->softirq) / seconds, 1);
        put("core_steal_pct", 100 * (b->steal - a->steal) / seconds, 1);
        put_per("core", unit, b->core - a->core, units);
    }
    put("client_cpu_pct", 100 * (b->mine - a->mine) / seconds, 1);
    if (o_server_pid > 0) {                /* busy time that was neither the server's nor ours: noise */
        double other = b->all - a->all - (b->cpu - a->cpu) - (b->mine - a->mine);
        put("other_cpu_pct", other > 0 ? 100 * other / seconds : 0, 1);
    }
}
static void announce(const char *what) {
    if (o_announce) fprintf(stderr, "sioload: %s\n", what);
}
static void sample_now(usage *u) { sample(u, o_server_pid, o_server_core); }

/* ---- modes ---- */
static void report_connect(const usage *before, const usage *after, double seconds) {
    double got = (double)hist_n;
    put("seconds", seconds, 3);
    put("handshakes_per_s", got / seconds, 1);
    put("concurrency", o_concurrency, 0);
    put_latency();
    put_usage(before, after, seconds, got, "handshake");
    if (o_server_pid > 0 && !o_close) {
        put("server_rss_before_kb", (double)before->rss, 0);
        put("rss_bytes_per_client", got > 0 ? 1024.0 * (double)(after->rss - before->rss) / got : 0, 0);
    }
}
static void run_idle(const usage *before, double connect_seconds) {
    usage from, to;
    run_for(2);                            /* let it settle */
    sample_now(&from);
    running = 1;
    run_for(o_seconds);
    sample_now(&to);
    put("seconds", o_seconds, 1);
    put("connect_s", connect_seconds, 2);
    put("rss_bytes_per_client", 1024.0 * (double)(to.rss - before->rss) / o_clients, 0);
    put("kernel_tcp_bytes_per_client", 1024.0 * (double)(to.tcp_mem - before->tcp_mem) / o_clients, 0);
    put("server_rss_before_kb", (double)before->rss, 0);
    put_usage(&from, &to, o_seconds, 0, "");
    put_count("alive", (uint64_t)ready);
}
/* Warm up, measure between two samples, then drain; returns the measured seconds. */
static double traffic(usage *from, usage *to) {
    enum { WARMUP, MEASURE, DRAIN } phase = WARMUP;
    uint64_t start = now(), end = 0, checked = start, t;
    double seconds = o_seconds;
    running = publishing = 1;
    window_from = start + (uint64_t)(o_warmup * 1e9);
    window_to = window_from + (uint64_t)(o_seconds * 1e9);
    send_first();
    for (;;) {
        t = now();
        if (phase == WARMUP && next_seq < (uint64_t)o_warmup_broadcasts && t + SEC / 20 >= window_from) {
            uint64_t more = t + SEC / 10 - window_from;   /* before it is reached: what comes from then on is counted */
            window_from += more;
            window_to += more;
        }
        if (phase == WARMUP && t >= window_from) {
            announce("measuring");
            sample_now(from);
            window_from = now();
            if (o_rate <= 0) window_to = window_from + (uint64_t)(o_seconds * 1e9);
            phase = MEASURE;
        }
        if (phase == MEASURE && t >= window_to) {
            sample_now(to);
            seconds = (double)(t - window_from) / 1e9;
            window_to = t;
            end = t + (uint64_t)(o_drain * 1e9);
            publishing = 0;
            announce("measured");
            phase = DRAIN;
        }
        if (phase == DRAIN && (t >= end || (inflight == 0 && !unanswered(1)))) break;
        int64_t wait = 20000000, due;
        if (publishing && o_rate > 0 && (due = send_due(start, t)) < wait) wait = due;
        if (publishing && o_side && o_side_rate > 0 && (due = send_side_due(start, t)) < wait) wait = due;
        turn(wait);
        if (t - checked > 200000000) {
            checked = t;
            if (o_mode == BROADCAST && o_rate <= 0) give_up_stalled();
        }
    }
    return seconds;
}
static void report_broadcast(const usage *from, const usage *to, double seconds, int got) {
    uint64_t missing = 0, missing_on_dropped = 0;
    for (int i = 0; i < total; i++) {
        uint64_t m = next_seq - clients[i].got;
        if (clients[i].state == READY) missing += m;
        else if (clients[i].max_seq >= 0) missing_on_dropped += m;
    }
    put("window", o_rate > 0 ? 0 : o_window, 0);
    if (o_deflate) put_count("inflated", inflated);
    if (o_side) {
        put_count("side_round_trips", window_round_trips);
        put("side_round_trips_per_s", (double)window_round_trips / seconds, 1);
        put_count("unanswered", unanswered(0));
        put_count("bad_payload", bad_payload);
    }
    put_count("deliveries", window_deliveries);
    put("deliveries_per_s", (double)window_deliveries / seconds, 1);
    if (window_deliveries) put("received_bytes_per_delivery", (double)window_bytes / (double)window_deliveries, 1);
    put_count("received_bytes", received_bytes);
    put("broadcasts_per_s", (double)window_deliveries / seconds / (got ? got : 1), 2);
    put_latency();
    put_usage(from, to, seconds, (double)window_deliveries, "delivery");
    put_count("published", next_seq);
    put_count("missing", missing);
    put_count("missing_on_dropped", missing_on_dropped);
    put_count("duplicate", duplicates);
    put_count("out_of_order", out_of_order);
    put_count("stale", stale);
    put_count("stalled", stalled);
}
static void report_echo(const usage *from, const usage *to, double seconds) {
    put("inflight", o_inflight, 0);
    put_count("round_trips", window_round_trips);
    put("round_trips_per_s", (double)window_round_trips / seconds, 1);
    put_latency();
    put_usage(from, to, seconds, (double)window_round_trips, "round_trip");
    put_count("unanswered", unanswered(0));
    put_count("bad_payload", bad_payload);
}
static int run_traffic(int got) {
    usage from, to;
    if (ready < 1 || (o_mode == BROADCAST && clients[o_clients].state != READY)) {
        printf(",\"error\":\"not connected\"}\n");
        return 1;
    }
    run_for(o_settle);
    double seconds = traffic(&from, &to);
    put("payload", o_payload, 0);
    put("seconds", seconds, 3);
    if (o_rate > 0) put("rate", o_rate, 1);
    if (o_mode == BROADCAST) report_broadcast(&from, &to, seconds, got);
    else report_echo(&from, &to, seconds);
    put_count("overrun", overrun);
    put_count("foreign", foreign);
    return 0;
}

static void limit_resources(void) {
    int at_once = o_close && o_concurrency < total ? o_concurrency : total;
    int sockets = at_once * (o_transport == STREAMING ? 2 : 1);
    struct rlimit files, memory = {4ull << 30, 4ull << 30};   /* fail here, not the machine */
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    setrlimit(RLIMIT_AS, &memory);
    if ((rlim_t)sockets + 16 > files.rlim_cur)
        die("%d connections but only %lu descriptors", sockets, (unsigned long)files.rlim_cur);
}
static void make_clients(void) {
    if (!(clients = calloc((size_t)total, sizeof *clients))) die("out of memory");
    for (int i = 0; i < total; i++) {
        client *c = &clients[i];
        c->id = (uint32_t)i;
        c->transport = (uint8_t)o_transport;
        c->max_seq = -1;
        c->main = (tcp){.owner = c, .fd = -1};
        c->up = (tcp){.owner = c, .fd = -1};
        if (o_mode == BROADCAST && i == o_clients) {
            c->publisher = 1;
            c->transport = (uint8_t)o_pub_transport;
        }
        c->side = o_mode == BROADCAST && i > o_clients;
        if (o_mode != ECHO_ && !c->side) continue;
        c->echo_sent = calloc(slots_of(c) * 2, sizeof *c->echo_sent);
        c->echo_id = c->echo_sent + slots_of(c);
    }
    int letters = o_payload > o_side_payload ? o_payload : o_side_payload;
    filler = malloc((size_t)letters + 1);
    for (int i = 0; i < letters; i++) filler[i] = (char)('a' + i % 26);
    if (o_rows) make_rows();
}
int main(int argc, char **argv) {
    parse_options(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    total = o_clients + (o_mode == BROADCAST ? 1 + o_side : 0) + (o_mode == IDLE ? o_base : 0);
    limit_resources();
    make_clients();
    epoll = epoll_create1(EPOLL_CLOEXEC);
    time_zero = now();

    usage before, after;
    if (o_mode == IDLE) { open_until(o_base); run_for(1); }
    int is_connect = o_mode == CONNECT || o_mode == IDLE;
    if (is_connect) announce("measuring");
    sample_now(&before);
    uint64_t start = now();
    open_until(total);
    double connect_seconds = (double)(now() - start) / 1e9;
    sample_now(&after);
    if (is_connect) announce("measured");
    int got = o_mode == CONNECT ? (int)hist_n : ready, status = 0;

    printf("{\"mode\":\"%s\",\"label\":\"%s\",\"transport\":\"%s\",\"clients\":%d,\"ready\":%d,\"connect_failed\":%d",
           MODES[o_mode], o_label, TRANSPORTS[o_transport], o_clients, got, failed + opening);
    if (o_mode == CONNECT) report_connect(&before, &after, connect_seconds);
    else if (o_mode == IDLE) run_idle(&before, connect_seconds);
    else status = run_traffic(got);
    if (status) return status;
    running = 0;
    if (stream_responses) put_count("stream_responses", stream_responses);
    put_count("pings", pings);
    put("disconnects", disconnects, 0);
    put_count("errors", errors);
    printf("}\n");
    return 0;
}

/* Echoes and broadcasts: what is sent, and the exact count of what comes back.
 *
 * Broadcasts are numbered from 0.  Each client keeps the highest number seen and a bit for each of the
 * 64 below it, so a repeat and a late arrival are told apart; older ones than that are `stale`.
 */
#ifndef WORKLOAD_H
#define WORKLOAD_H
#include <ctype.h>

#include "client.h"
#include "histogram.h"

#define RING (1u << 16)                    /* broadcasts outstanding at most */

static char *filler;                       /* as many letters as the longest payload */
static buffer rows;                        /* --rows: the part of a payload that all have in common */
static uint64_t window_from = UINT64_MAX, window_to = UINT64_MAX;   /* what is measured */
static uint64_t time_zero;
static int publishing;

static struct { uint64_t sent; uint32_t left; uint8_t measured; } ring[RING];
static uint64_t next_seq, oldest, inflight, stalled, overrun;
static uint64_t window_deliveries, duplicates, out_of_order, stale, foreign;
static uint64_t window_round_trips, bad_payload;

static int in_window(uint64_t t) { return t >= window_from && t < window_to; }

static uint64_t number(const char **p, const char *end) {
    uint64_t v = 0;
    while (*p < end && isdigit((unsigned char)**p)) v = v * 10 + (uint64_t)(*(*p)++ - '0');
    return v;
}
static uint64_t slots_of(const client *c) { return (uint64_t)(c->side ? o_side_inflight : o_inflight); }
static size_t payload_of(const client *c) { return (size_t)(c->side ? o_side_payload : o_payload); }
static void echo_send(client *c, uint64_t slot, uint64_t t) {
    static buffer b;
    uint64_t id = c->echo_next++ * slots_of(c) + slot;
    reserve(&b, payload_of(c) + 96);
    b.n = (size_t)snprintf(b.p, 96, "42%llu[\"%s\",\"", (unsigned long long)id, c->side ? o_side_event : "echo");
    append(&b, filler, payload_of(c));
    append(&b, "\"]", 2);
    c->echo_sent[slot] = t;
    c->echo_id[slot] = id;
    send_packet(c, b.p, b.n);
}
static void on_ack(client *c, const char *p, size_t n, uint64_t t) {
    const char *q = p, *end = p + n;
    if (!c->echo_sent) return;
    uint64_t id = number(&q, end), slot = id % slots_of(c);
    if (!c->echo_sent[slot] || c->echo_id[slot] != id) { foreign++; return; }
    if ((size_t)(end - q) != payload_of(c) + 4 || memcmp(q + 2, filler, payload_of(c))) bad_payload++;
    uint64_t sent = c->echo_sent[slot];
    c->echo_sent[slot] = 0;
    if (in_window(t)) window_round_trips++;
    if (in_window(sent) && !c->side) hist_add(t - sent);
    if (publishing && (c->side ? o_side_rate : o_rate) <= 0) echo_send(c, slot, t);
}
/* Records such as a feed of prices has; every run makes the same ones.  128 bytes are left for the rest. */
static void make_rows(void) {
    static const char *const VENUES[] = {"XNAS", "XNYS", "XLON", "XETR"};
    uint32_t r = 2463534242u;
    append(&rows, "\"rows\":[", 8);
    for (int i = 0;; i++) {
        char row[128];
        r ^= r << 13;
        r ^= r >> 17;
        r ^= r << 5;
        uint32_t price = 9000 + r % 3000, spread = 1 + (r >> 12) % 9;
        int n = snprintf(row, sizeof row,
            "%s{\"symbol\":\"%c%c%c\",\"bid\":%u.%02u,\"ask\":%u.%02u,\"volume\":%u,\"venue\":\"%s\",\"open\":%s}",
            i ? "," : "", 'A' + (int)(r % 26), 'A' + (int)(r / 26 % 26), 'A' + (int)(r / 676 % 26),
            price / 100, price % 100, (price + spread) / 100, (price + spread) % 100, (r >> 8) % 100000,
            VENUES[r >> 30], r >> 16 & 1 ? "true" : "false");
        if (rows.n + (size_t)n + 128 > (size_t)o_payload) break;
        append(&rows, row, (size_t)n);
    }
    append(&rows, "],", 2);
}
static void publish(uint64_t t) {
    static buffer b;
    reserve(&b, (size_t)o_payload + 256);
    b.n = (size_t)snprintf(b.p, 256, "42[\"broadcast\",");
    size_t from = b.n;
    b.n += (size_t)snprintf(b.p + b.n, 128, "{\"s\":%llu,\"t\":%llu,", (unsigned long long)next_seq,
                            (unsigned long long)(t - time_zero));
    if (o_rows) append(&b, rows.p, rows.n);
    append(&b, "\"pad\":\"", 7);
    size_t used = b.n - from + 2;
    if ((size_t)o_payload > used) append(&b, filler, (size_t)o_payload - used);
    append(&b, "\"}]", 3);
    uint32_t i = (uint32_t)(next_seq % RING);
    ring[i].sent = t;
    ring[i].left = (uint32_t)ready;
    ring[i].measured = (uint8_t)in_window(t);
    next_seq++;
    inflight++;
    send_packet(&clients[o_clients], b.p, b.n);
}
/* Notes number s with the client: 1 if it is a first delivery. */
static int first_delivery(client *c, uint64_t s) {
    int64_t ahead = (int64_t)s - c->max_seq;
    if (ahead > 0) {
        c->seen = ahead > 63 ? 1 : c->seen << ahead | 1;
        c->max_seq = (int64_t)s;
        return 1;
    }
    if (ahead < -63) { stale++; return 0; }
    if (c->seen >> -ahead & 1) { duplicates++; return 0; }
    c->seen |= 1ull << -ahead;
    out_of_order++;
    return 1;
}
static void on_message(client *c, const char *p, size_t n, uint64_t t) {
    const char *q = memmem(p, n < 160 ? n : 160, "\"s\":", 4), *end = p + n;
    if (!q || o_mode != BROADCAST) { foreign++; return; }
    for (q += 4; q < end && *q == ' '; q++) ;
    uint64_t s = number(&q, end);
    if (s >= next_seq || next_seq - s > RING) { foreign++; return; }
    if (!first_delivery(c, s)) return;
    c->got++;
    if (in_window(t)) window_deliveries++;
    uint32_t i = (uint32_t)(s % RING);
    if (ring[i].measured && !c->side) hist_add(t > ring[i].sent ? t - ring[i].sent : 0);
    if (ring[i].left && --ring[i].left == 0) {
        inflight--;
        while (oldest < next_seq && !ring[oldest % RING].left) oldest++;
        if (publishing && o_rate <= 0 && inflight < (uint64_t)o_window) publish(now());
    }
}
/* Give up broadcasts that somebody never got, so that a closed loop goes on. */
static void give_up_stalled(void) {
    uint64_t t = now(), end = next_seq;    /* t is not older than any send time in the ring */
    for (; oldest < end; oldest++) {
        uint32_t i = (uint32_t)(oldest % RING);
        if (!ring[i].left) continue;
        if ((double)t - (double)ring[i].sent < o_stall * 1e9) return;
        ring[i].left = 0;
        stalled++;
        inflight--;
        if (publishing && inflight < (uint64_t)o_window) publish(now());
    }
}
/* An echo, if the client has a slot free. */
static void echo_due(client *c, uint64_t due) {
    uint64_t k = 0;
    while (k < slots_of(c) && c->echo_sent[k]) k++;
    if (k == slots_of(c) || c->state != READY) overrun++;
    else echo_send(c, k, due);
}
/* --rate: send what is due by t; returns nanoseconds until the next. */
static int64_t send_due(uint64_t start, uint64_t t) {
    static uint64_t sent;
    for (;; sent++) {
        uint64_t due = start + (uint64_t)((double)sent * 1e9 / o_rate);
        if (due > t) return (int64_t)(due - t);
        if (o_mode != BROADCAST) echo_due(&clients[sent % (uint64_t)total], due);
        else if (inflight >= RING - 1) overrun++;
        else publish(due);
    }
}
/* --side-rate, likewise. */
static int64_t send_side_due(uint64_t start, uint64_t t) {
    static uint64_t sent;
    for (;; sent++) {
        uint64_t due = start + (uint64_t)((double)sent * 1e9 / o_side_rate);
        if (due > t) return (int64_t)(due - t);
        echo_due(&clients[o_clients + 1 + (int)(sent % (uint64_t)o_side)], due);
    }
}
static void send_first(void) {             /* closed loops: fill the windows */
    for (int i = 0; o_mode == BROADCAST && o_rate <= 0 && i < o_window; i++) publish(now());
    for (int i = 0; i < total; i++) {
        client *c = &clients[i];
        if (!c->echo_sent || (c->side ? o_side_rate : o_rate) > 0) continue;
        for (uint64_t k = 0; k < slots_of(c) && c->state == READY; k++) echo_send(c, k, now());
    }
}
static uint64_t unanswered(int only_ready) {
    uint64_t n = 0;
    for (int i = 0; i < total; i++)
        for (uint64_t k = 0; clients[i].echo_sent && k < slots_of(&clients[i]); k++)
            n += clients[i].echo_sent[k] && (!only_ready || clients[i].state == READY);
    return n;
}
#endif

/* Latencies in a log-linear histogram with 7 bits of precision (0.8 %). */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H
#include <stdint.h>

enum { BUCKETS = 58 * 128 };
static uint64_t hist[BUCKETS], hist_n, hist_max;
static double hist_sum;

static void hist_add(uint64_t ns) {
    int i = (int)ns;
    if (ns >= 128) {
        int shift = 63 - __builtin_clzll(ns) - 7;
        i = (shift + 1) * 128 + (int)((ns >> shift) - 128);
    }
    hist[i]++;
    hist_n++;
    hist_sum += (double)ns;
    if (ns > hist_max) hist_max = ns;
}
static double hist_quantile_us(double q) {
    uint64_t want = (uint64_t)(q * (double)hist_n), count = 0;
    if (!hist_n) return 0;
    if (want >= hist_n) want = hist_n - 1;
    for (int i = 0; i < BUCKETS; i++) {
        count += hist[i];
        if (count <= want) continue;
        if (i < 128) return (i + 0.5) / 1e3;
        double width = (double)(1ull << (i / 128 - 1));
        return ((128 + i % 128) * width + width / 2) / 1e3;
    }
    return (double)hist_max / 1e3;
}
#endif

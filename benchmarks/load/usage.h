/* What the server, its core, the machine and this process have used so far, from /proc. */
#ifndef USAGE_H
#define USAGE_H
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

typedef struct {
    double cpu, user, sys;                 /* server and its children, seconds */
    double core, softirq, steal;           /* the server's core, seconds */
    double mine, all;                      /* this process; every core together, busy seconds */
    long rss, tcp_mem;                     /* KiB: resident memory of the server; kernel's TCP buffers */
} usage;

static long slurp(const char *path, char *b, size_t cap) {
    int f = open(path, O_RDONLY | O_CLOEXEC);
    if (f < 0) return -1;
    size_t n = 0;
    ssize_t k;
    while (n + 1 < cap && (k = read(f, b + n, cap - 1 - n)) > 0) n += (size_t)k;
    close(f);
    b[n] = 0;
    return (long)n;
}
/* schedstat counts nanoseconds; stat counts ticks of 10 ms and is the fallback. */
static void add_process(int pid, usage *u) {
    char path[96], b[8192], *q;
    double tick = (double)sysconf(_SC_CLK_TCK);
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    if (slurp(path, b, sizeof b) <= 0 || !(q = strrchr(b, ')'))) return;
    unsigned long user = 0, sys = 0;
    sscanf(q + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &sys);
    u->user += (double)user / tick;
    u->sys += (double)sys / tick;

    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *d = opendir(path);
    struct dirent *e;
    double ns = 0;
    while (d && (e = readdir(d))) {
        if (!isdigit((unsigned char)e->d_name[0])) continue;
        snprintf(path, sizeof path, "/proc/%d/task/%.12s/schedstat", pid, e->d_name);
        if (slurp(path, b, sizeof b) > 0) ns += strtod(b, NULL);
    }
    if (d) closedir(d);
    u->cpu += ns > 0 ? ns / 1e9 : (double)(user + sys) / tick;

    snprintf(path, sizeof path, "/proc/%d/status", pid);
    if (slurp(path, b, sizeof b) > 0 && (q = strstr(b, "VmRSS:"))) u->rss += atol(q + 6);
}
static void add_process_tree(int root, usage *u) {
    static struct { int pid, parent; } all[65536];
    char path[64], b[8192], *q;
    int n_all = 0, tree[512] = {root}, n = 1;
    DIR *d = opendir("/proc");
    struct dirent *e;
    while (d && (e = readdir(d)) && n_all < 65536) {
        if (!isdigit((unsigned char)e->d_name[0])) continue;
        snprintf(path, sizeof path, "/proc/%.12s/stat", e->d_name);
        if (slurp(path, b, sizeof b) <= 0 || !(q = strrchr(b, ')'))) continue;
        all[n_all].pid = atoi(e->d_name);
        all[n_all].parent = 0;
        sscanf(q + 2, "%*c %d", &all[n_all].parent);
        n_all++;
    }
    if (d) closedir(d);
    for (int done = 0; done < n; done++)
        for (int i = 0; i < n_all; i++)
            if (all[i].parent == tree[done] && n < 512) tree[n++] = all[i].pid;
    for (int i = 0; i < n; i++) add_process(tree[i], u);
}
/* One cpu line of /proc/stat: user nice system idle iowait irq softirq steal. */
static double busy_seconds(const char *line, double *softirq, double *steal) {
    double v[8], tick = (double)sysconf(_SC_CLK_TCK);
    char *q = (char *)line;
    for (int i = 0; i < 8; i++) v[i] = strtod(q, &q) / tick;
    if (softirq) *softirq = v[5] + v[6];
    if (steal) *steal = v[7];
    return v[0] + v[1] + v[2] + v[5] + v[6];
}
static void sample(usage *u, int server_pid, int server_core) {
    static char b[1 << 18];
    char tag[24], *q;
    memset(u, 0, sizeof *u);
    if (server_pid > 0) add_process_tree(server_pid, u);
    if (slurp("/proc/stat", b, sizeof b) > 0) {
        u->all = busy_seconds(b + 4, NULL, NULL);
        snprintf(tag, sizeof tag, "\ncpu%d ", server_core);
        if (server_core >= 0 && (q = strstr(b, tag))) u->core = busy_seconds(q + strlen(tag), &u->softirq, &u->steal);
    }
    if (slurp("/proc/net/sockstat", b, sizeof b) > 0 && (q = strstr(b, "TCP:")) && (q = strstr(q, " mem ")))
        u->tcp_mem = atol(q + 5) * (sysconf(_SC_PAGESIZE) / 1024);
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    u->mine = (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}
#endif

/* The command line: one table from option names to the variables they set. */
#ifndef OPTIONS_H
#define OPTIONS_H
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WEBSOCKET, POLLING, STREAMING };
enum { CONNECT, IDLE, ECHO_, BROADCAST };
static const char *const TRANSPORTS[] = {"websocket", "polling", "xhr-streaming", NULL};
static const char *const MODES[] = {"connect", "idle", "echo", "broadcast", NULL};

static const char *o_host = "127.0.0.1", *o_path = "/socket.io/", *o_label = "";
static int o_port = 5000, o_pub_port = 0, o_second_port = 0, o_warmup_broadcasts = 0, o_clients = 100, o_source_ips = 4, o_concurrency = 64;
static int o_transport = WEBSOCKET, o_pub_transport = WEBSOCKET, o_mode = BROADCAST;
static int o_window = 4, o_inflight = 1, o_payload = 64, o_base = 100;
static int o_server_pid = 0, o_server_core = -1;
static const char *o_side_event = "echo";
static int o_side = 0, o_side_payload = 64, o_side_inflight = 1;
static int o_close = 0, o_stream_ack = 0, o_deflate = 0, o_rows = 0, o_announce = 0, o_verbose = 0;
static double o_side_rate = 0;
static double o_seconds = 5, o_warmup = 1, o_drain = 5, o_settle = 0, o_rate = 0, o_stall = 5, o_connect_deadline = 120;

static const char USAGE[] =
"sioload [options]\n"
"  --host A --port P --path /socket.io/   where the server is (IPv4 address)\n"
"  --pub-port P          the publisher connects here instead (another gateway process)\n"
"  --second-port P       every second client connects here instead\n"
"  --mode connect|idle|echo|broadcast\n"
"  --transport websocket|polling|xhr-streaming\n"
"  --pub-transport ...   publisher's transport (websocket)\n"
"  --stream-ack          xhr-streaming: say how many records came, so that a cut response is made whole\n"
"  --deflate             WebSocket: insist on permessage-deflate without context takeover\n"
"  --clients N           listeners or clients (100)\n"
"  --source-ips K        spread client addresses over 127.0.0.1..K (4; 0: let the kernel choose)\n"
"  --concurrency C       connects under way at once (64)\n"
"  --connect-deadline T  give up connecting after T seconds (120)\n"
"  --seconds T --warmup S --drain S       measured / before / after (5 / 1 / 5)\n"
"  --warmup-broadcasts N the warm-up also lasts until so many were published (0)\n"
"  --settle S            wait between the last connect and the first message (0)\n"
"  --payload B           bytes of payload (64)\n"
"  --rows                broadcast: fill the payload with records as JSON, not with letters (256 bytes or more)\n"
"  --inflight K          echo: round trips in flight per client (1)\n"
"  --window W            broadcast: broadcasts in flight (4)\n"
"  --stall S             broadcast: give one up that is not complete after S seconds (5)\n"
"  --rate R              open loop: R broadcasts (or echoes) per second in all\n"
"  --side K              broadcast: K more clients call events of their own all the time; what they are sent\n"
"                        counts as delivered, but not as latency\n"
"  --side-event NAME --side-payload B --side-inflight I   what they call (echo / 64 / 1)\n"
"  --side-rate R         that many calls a second, all side clients together, not one after the other\n"
"  --base B              idle: clients opened before the first reading (100)\n"
"  --close               connect: close each client once connected\n"
"  --server-pid P        read this process and its children from /proc\n"
"  --server-core N       also read this core's busy time from /proc/stat\n"
"  --label TEXT          copied into the result\n"
"  --announce            say 'measuring' and 'measured' on stderr when that begins and ends\n"
"  --verbose             say why each client was lost\n";

typedef enum { TEXT, INT, REAL, FLAG, TRANSPORT, MODE } option_kind;
static const struct { const char *name; option_kind kind; void *to; } OPTIONS[] = {
    {"host", TEXT, &o_host}, {"port", INT, &o_port}, {"path", TEXT, &o_path}, {"pub-port", INT, &o_pub_port},
    {"second-port", INT, &o_second_port}, {"settle", REAL, &o_settle},
    {"warmup-broadcasts", INT, &o_warmup_broadcasts},
    {"mode", MODE, &o_mode}, {"transport", TRANSPORT, &o_transport}, {"pub-transport", TRANSPORT, &o_pub_transport},
    {"stream-ack", FLAG, &o_stream_ack}, {"deflate", FLAG, &o_deflate}, {"rows", FLAG, &o_rows},
    {"clients", INT, &o_clients}, {"source-ips", INT, &o_source_ips},
    {"concurrency", INT, &o_concurrency}, {"connect-deadline", REAL, &o_connect_deadline},
    {"seconds", REAL, &o_seconds}, {"warmup", REAL, &o_warmup}, {"drain", REAL, &o_drain},
    {"payload", INT, &o_payload}, {"inflight", INT, &o_inflight}, {"window", INT, &o_window},
    {"stall", REAL, &o_stall}, {"rate", REAL, &o_rate}, {"base", INT, &o_base}, {"close", FLAG, &o_close},
    {"server-pid", INT, &o_server_pid}, {"server-core", INT, &o_server_core},
    {"side", INT, &o_side}, {"side-event", TEXT, &o_side_event}, {"side-payload", INT, &o_side_payload},
    {"side-inflight", INT, &o_side_inflight}, {"side-rate", REAL, &o_side_rate},
    {"label", TEXT, &o_label}, {"announce", FLAG, &o_announce}, {"verbose", FLAG, &o_verbose},
};
enum { N_OPTIONS = sizeof OPTIONS / sizeof *OPTIONS };

static void usage_error(const char *what) {
    fprintf(stderr, "sioload: %s\n%s", what, USAGE);
    exit(2);
}
static int one_of(const char *const *names, const char *value) {
    for (int i = 0; names[i]; i++)
        if (!strcmp(names[i], value)) return i;
    usage_error(value);
    return -1;
}
static void parse_options(int argc, char **argv) {
    struct option long_options[N_OPTIONS + 2] = {{0}};
    for (int i = 0; i < N_OPTIONS; i++)
        long_options[i] = (struct option){OPTIONS[i].name, OPTIONS[i].kind != FLAG, NULL, 256 + i};
    long_options[N_OPTIONS] = (struct option){"help", 0, NULL, 'h'};
    int o;
    while ((o = getopt_long(argc, argv, "h", long_options, NULL)) != -1) {
        if (o == 'h') { fputs(USAGE, stdout); exit(0); }
        if (o < 256) usage_error("unknown option");
        void *to = OPTIONS[o - 256].to;
        switch (OPTIONS[o - 256].kind) {
        case TEXT: *(const char **)to = optarg; break;
        case INT: *(int *)to = atoi(optarg); break;
        case REAL: *(double *)to = atof(optarg); break;
        case FLAG: *(int *)to = 1; break;
        case TRANSPORT: *(int *)to = one_of(TRANSPORTS, optarg); break;
        case MODE: *(int *)to = one_of(MODES, optarg); break;
        }
    }
    if (optind != argc) usage_error(argv[optind]);
    if (o_clients < 1 || o_inflight < 1 || o_window < 1 || o_payload < 0 || o_base < 0)
        usage_error("a count is out of range");
    if (o_side < 0 || o_side_payload < 0 || o_side_inflight < 1 || strlen(o_side_event) > 32)
        usage_error("--side...");
    if (o_side && o_mode != BROADCAST) usage_error("--side needs --mode broadcast");
    if (o_transport != WEBSOCKET && (o_side || o_deflate)) usage_error("--side and --deflate need WebSocket");
    if (o_rows && o_payload < 256) usage_error("--rows needs 256 bytes of payload");
}
#endif

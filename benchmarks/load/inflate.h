/* Inflating one message of permessage-deflate, RFC 7692 7.2.2. */
#ifndef INFLATE_H
#define INFLATE_H
#include <zlib.h>

#include "client.h"

/* 1, and p[0..n) is what it holds, valid until the next call; 0 when it is broken.  A broadcast comes to each client
 * in turn and often as the same bytes: what they hold is known then, and the load is not the slower side. */
static int inflate_message(char **p, size_t *n) {
    static z_stream z;
    static buffer last, out;
    static unsigned char tail[4] = {0, 0, 0xff, 0xff};   /* the sender cut these off */
    if (!z.state && inflateInit2(&z, -15) != Z_OK) die("zlib: no memory");
    if (last.n && last.n == *n && !memcmp(last.p, *p, *n)) {
        *p = out.p;
        *n = out.n;
        return 1;
    }
    inflateReset(&z);
    last.n = out.n = 0;
    for (int part = 0; part < 2; part++) {
        z.next_in = part ? tail : (unsigned char *)*p;
        z.avail_in = part ? sizeof tail : (uInt)*n;
        do {
            reserve(&out, out.n + 65536);
            z.next_out = (unsigned char *)out.p + out.n;
            z.avail_out = (uInt)(out.cap - out.n);
            int status = inflate(&z, Z_SYNC_FLUSH);
            out.n = out.cap - z.avail_out;
            if (status == Z_BUF_ERROR) break;            /* nothing left to do */
            if (status != Z_OK) return 0;
        } while (z.avail_in || !z.avail_out);
    }
    if (z.avail_in) return 0;
    append(&last, *p, *n);
    *p = out.p;
    *n = out.n;
    return 1;
}
#endif

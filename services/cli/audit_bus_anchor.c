/* audit_bus_anchor.c - the checkpoint that the bus keeps of a trail in a directory: what `redoubt audit verify --bus` holds it against. */
#include "cli/audit_bus_anchor.h"
#include "audit/audit_verify.h"
#include "cli/cli_bus.h"
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

struct asked {
    bool done;
    enum bus_status status;
    char *note; /* NULL = none that can be read */
};

static void on_last(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct asked *a = ctx;
    a->done = true;
    a->status = st;
    PB(AuditCheckpoint) *c = st == BUS_OK && m ? wire_unpack(PB_DESC(audit_checkpoint), m->data, m->len, NULL) : NULL;
    if (c)
        a->note = strdup(c->note);
    wire_free(c);
}

/* Of the first directory that says. */
static int chain_of(const char *const *dirs, size_t n_dirs, char hex[static 2 * AUDIT_CHAIN_BYTES + 1])
{
    for (size_t i = 0; i < n_dirs; i++) {
        size_t n;
        struct audit_checkpoint c;
        unsigned char *text = audit_read_file(dirs[i], AUDIT_CHECKPOINT_FILE, AUDIT_NOTE_MAX, &n, NULL);
        bool ok = text && audit_checkpoint_parse((char *)text, n, &c, NULL) == 0;
        free(text);
        if (ok) {
            sodium_bin2hex(hex, 2 * AUDIT_CHAIN_BYTES + 1, c.chain, sizeof c.chain);
            return 0;
        }
    }
    return -1;
}

int audit_bus_anchor(struct cli *c, const char *const *dirs, size_t n_dirs, char **ret_note)
{
    char chain[2 * AUDIT_CHAIN_BYTES + 1], subject[SUBJECT_MAX_LEN];
    struct asked a = {0};
    struct cli_link link;
    if (chain_of(dirs, n_dirs, chain))
        return cli_fail(c, CLI_FAILED, "--bus: %s has no checkpoint that says which trail it is", dirs[0]);
    int code = cli_link_open(&link, c);
    if (code == CLI_OK) {
        snprintf(subject, sizeof subject, SUBJECT_CHECKPOINT "%s", chain);
        bus_last(link.bus, STREAM_STATE, subject, c->answer_ms, on_last, &a);
        loop_run_until(&link.loop, &a.done, c->answer_ms + 1000);
        if (!a.done || a.status == BUS_TIMEOUT || a.status == BUS_NO_RESPONDERS)
            code = cli_fail(c, CLI_UNREACHABLE, "--bus: stream " STREAM_STATE " does not answer");
        else if (!a.note)
            code = cli_fail(c, CLI_FAILED, "--bus: the bus keeps no checkpoint of trail %s", chain);
    }
    cli_link_close(&link);
    *ret_note = code == CLI_OK ? a.note : NULL;
    if (code != CLI_OK)
        free(a.note);
    return code;
}

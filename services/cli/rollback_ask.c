/* rollback_ask.c - what is known of deployments. */
#include "cli/rollback_ask.h"
#include <stdlib.h>
#include <string.h>

static void *more(void *at, size_t n, size_t size)
{
    void *p = reallocarray(at, n, size);
    if (!p)
        abort();
    return p;
}

bool rollback_name_ok(struct cli *c, const char *name, int *ret)
{
    if (name_token_ok(name))
        return true;
    *ret = cli_fail(c, CLI_USAGE, "`%s` is no deployment's name; allowed: [a-z0-9_-]", name);
    return false;
}

static int no_stream(struct cli_link *k)
{
    return cli_fail(k->c, CLI_UNREACHABLE,
                    "the present cannot be read from stream " STREAM_STATE
                    ": does this NATS server have JetStream, and may this user read it?");
}

/* ---- all ---- */

/* Bad input is shown to nobody here: who owns the subject counts and logs it. */
static void on_doc(void *ctx, const struct bus_msg *m)
{
    struct rollback_docs *d = ctx;
    PB(RollbackChanged) *doc = wire_unpack(PB_DESC(rollback_changed), m->data, m->len, NULL);
    if (!doc)
        return;
    size_t i = 0;
    int order = -1;
    while (i < d->n && (order = strcmp(d->at[i]->deployment, doc->deployment)) < 0)
        i++;
    if (i < d->n && order == 0) {
        bool fresh = d->at[i]->epoch < doc->epoch;
        wire_free(fresh ? d->at[i] : doc);
        if (fresh)
            d->at[i] = doc;
        return;
    }
    d->at = more(d->at, d->n + 1, sizeof *d->at);
    memmove(d->at + i + 1, d->at + i, (d->n - i) * sizeof *d->at);
    d->at[i] = doc;
    d->n++;
}

static void on_docs(void *ctx)
{
    ((struct rollback_docs *)ctx)->synced = true;
}

static int read_docs(struct cli_link *k, const char *filter, struct rollback_docs *ret)
{
    *ret = (struct rollback_docs){0};
    struct bus_watch *w = bus_watch(k->bus, filter, 0, on_doc, on_docs, ret);
    if (!w)
        return cli_fail(k->c, CLI_FAILED, "cannot watch %s", filter);
    bool synced = loop_run_until(&k->loop, &ret->synced, k->c->timeout_ms);
    bus_watch_close(w);
    return synced ? CLI_OK : no_stream(k);
}

int rollback_ask_all(struct cli_link *k, struct rollback_docs *ret)
{
    return read_docs(k, SUBJECT_ROLLBACK ">", ret);
}

void rollback_docs_free(struct rollback_docs *d)
{
    for (size_t i = 0; i < d->n; i++)
        wire_free(d->at[i]);
    free(d->at);
    *d = (struct rollback_docs){0};
}

/* ---- one ---- */

PB(RollbackChanged) * rollback_of_reply(const PB(CommandReply) * r)
{
    return r->payload.len > 0 ? wire_unpack(PB_DESC(rollback_changed), r->payload.data, r->payload.len, NULL) : NULL;
}

int rollback_ask_state(struct cli_link *k, const char *deployment, int64_t timeout_ms, bus_reply_cb cb, void *ctx)
{
    PB(RollbackCommand) c = REDOUBT__V1__ROLLBACK_COMMAND__INIT;
    size_t len;
    c.deployment = (char *)deployment;
    void *data = wire_pack(&c, &len, NULL);
    if (!data)
        return -1;
    struct bus_out o = {.subject = SUBJECT_CMD "rollback.state", .type = wire_type(&c), .data = data, .len = len};
    bus_request(k->bus, &o, timeout_ms, cb, ctx);
    free(data);
    return 0;
}

struct one {
    bool done;
    PB(CommandReply) * reply;
};

static void on_state(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct one *o = ctx;
    o->done = true;
    if (st == BUS_OK)
        o->reply = wire_unpack(PB_DESC(command_reply), m->data, m->len, NULL);
}

int rollback_ask_one(struct cli_link *k, const char *deployment, PB(RollbackChanged) * *ret, bool *ret_live)
{
    struct one o = {0};
    char text[1100], subject[SUBJECT_MAX_LEN];
    int code = CLI_OK;
    *ret = NULL;
    *ret_live = false;
    if (!rollback_name_ok(k->c, deployment, &code))
        return code;
    if (rollback_ask_state(k, deployment, k->c->answer_ms, on_state, &o) == 0)
        while (!loop_run_until(&k->loop, &o.done, k->c->answer_ms)) /* it ends by itself, and writes to `o` */
            ;
    if (o.reply && (*ret = rollback_of_reply(o.reply))) {
        *ret_live = true;
    } else if (o.reply && o.reply->status == REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_INVALID) {
        code = cli_fail(k->c, CLI_REFUSED, "refused: %s", term_clean(o.reply->message, 0, text, sizeof text));
    } else {
        /* Nobody answers, or the answer is "not now": what was announced last stands on the stream. */
        struct rollback_docs d;
        snprintf(subject, sizeof subject, SUBJECT_ROLLBACK "%s", deployment);
        code = read_docs(k, subject, &d);
        if (code == CLI_OK && d.n == 0)
            code = cli_fail(k->c, CLI_UNREACHABLE,
                            "redoubt-rollback does not answer, and nothing was ever announced of deployment `%s`; "
                            "`redoubt rollback` lists those that are known",
                            deployment);
        if (code == CLI_OK) {
            *ret = d.at[0];
            d.n = 0;
        }
        rollback_docs_free(&d);
    }
    wire_free(o.reply);
    return code;
}

/* ---- records of versions ---- */

static void on_record(void *ctx, const struct bus_msg *m)
{
    struct rollback_records *r = ctx;
    PB(VersionRecord) *v = wire_unpack(PB_DESC(version_record), m->data, m->len, NULL);
    if (!v || rollback_record(r, v->version->id)) { /* they never change */
        wire_free(v);
        return;
    }
    r->at = more(r->at, r->n + 1, sizeof *r->at);
    r->at[r->n++] = v;
}

static void on_records(void *ctx)
{
    ((struct rollback_records *)ctx)->synced = true;
}

int rollback_ask_records(struct cli_link *k, const char *deployment, struct rollback_records *ret)
{
    char filter[SUBJECT_MAX_LEN];
    *ret = (struct rollback_records){0};
    snprintf(filter, sizeof filter, SUBJECT_VERSION "%s.>", deployment);
    struct bus_watch *w = bus_watch(k->bus, filter, 0, on_record, on_records, ret);
    if (!w)
        return cli_fail(k->c, CLI_FAILED, "cannot watch %s", filter);
    bool synced = loop_run_until(&k->loop, &ret->synced, k->c->timeout_ms);
    bus_watch_close(w);
    return synced ? CLI_OK : no_stream(k);
}

const PB(VersionRecord) * rollback_record(const struct rollback_records *r, const char *id)
{
    for (size_t i = 0; i < r->n; i++)
        if (strcmp(r->at[i]->version->id, id) == 0)
            return r->at[i];
    return NULL;
}

void rollback_records_free(struct rollback_records *r)
{
    for (size_t i = 0; i < r->n; i++)
        wire_free(r->at[i]);
    free(r->at);
    *r = (struct rollback_records){0};
}

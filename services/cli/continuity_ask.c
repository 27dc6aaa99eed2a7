/* continuity_ask.c - what is known of incidents and objectives. */
#include "cli/continuity_ask.h"
#include "cli/incident_view.h"
#include <stdlib.h>
#include <string.h>

#define PHASE(x)    REDOUBT__V1__INCIDENT_PHASE__INCIDENT_PHASE_##x
#define MATCHES_MAX 8 /* ids that are named where a beginning fits several */

void *continuity_ask(struct cli_link *k, const char *verb, const PB(ContinuityCommand) * m,
                     const ProtobufCMessageDescriptor *desc, int *ret)
{
    PB(CommandReply) *r = NULL;
    struct err e = {""};
    char text[1100];
    void *got = NULL;
    PB(ContinuityCommand) named = *m;
    if (!*named.by)
        named.by = CONTINUITY_ASKS;
    *ret = cli_ask_again(k, "continuity", verb, &named, &r);
    if (*ret != CLI_OK)
        return NULL;
    if (r->status != REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK) {
        *ret = cli_fail(k->c, CLI_REFUSED, "refused: %s", term_clean(r->message, 0, text, sizeof text));
    } else {
        if (*r->message) /* it is not all that it could be: nobody leads, for one */
            cli_fail(k->c, 0, "%s", term_clean(r->message, 0, text, sizeof text));
        got = r->payload.len == 0 ? protobuf_c_message_unpack(desc, NULL, 0, NULL)
                                  : wire_unpack(desc, r->payload.data, r->payload.len, &e);
        if (!got)
            *ret = cli_fail(k->c, CLI_FAILED, "the answer cannot be read: %s", e.text);
    }
    wire_free(r);
    return got;
}

/* ---- what was announced last ---- */

struct docs {
    const ProtobufCMessageDescriptor *desc;
    void **at;
    size_t n;
    bool synced;
};

/* Bad input is shown to nobody here: who owns the subject counts and logs it. */
static void on_doc(void *ctx, const struct bus_msg *m)
{
    struct docs *d = ctx;
    void *doc = d->synced ? NULL : wire_unpack(d->desc, m->data, m->len, NULL);
    if (!doc)
        return;
    d->at = reallocarray(d->at, d->n + 1, sizeof *d->at);
    if (!d->at)
        abort();
    d->at[d->n++] = doc;
}

static void on_docs(void *ctx)
{
    ((struct docs *)ctx)->synced = true;
}

static int read_docs(struct cli_link *k, const char *filter, const ProtobufCMessageDescriptor *desc, struct docs *ret)
{
    *ret = (struct docs){.desc = desc};
    struct bus_watch *w = bus_watch(k->bus, filter, 0, on_doc, on_docs, ret);
    if (!w)
        return cli_fail(k->c, CLI_FAILED, "cannot watch %s", filter);
    bool synced = loop_run_until(&k->loop, &ret->synced, k->c->answer_ms);
    ret->synced = true;
    bus_watch_close(w);
    return synced ? CLI_OK
                  : cli_fail(k->c, CLI_UNREACHABLE,
                             "the present cannot be read from stream " STREAM_STATE
                             ": does this NATS server have JetStream, and may this user read it?");
}

static void docs_free(struct docs *d)
{
    for (size_t i = 0; i < d->n; i++)
        wire_free(d->at[i]);
    free(d->at);
}

void *continuity_ask_doc(struct cli_link *k, const char *subject, const ProtobufCMessageDescriptor *desc)
{
    struct docs d;
    void *last = NULL;
    if (read_docs(k, subject, desc, &d) == CLI_OK && d.n > 0)
        last = d.at[--d.n];
    docs_free(&d);
    return last;
}

/* ---- lists ---- */

static void take(struct incident_lines *l, PB(IncidentLine) * line)
{
    l->at = reallocarray(l->at, l->n + 1, sizeof *l->at);
    if (!l->at)
        abort();
    l->at[l->n++] = line;
}

/* Page by page; the lines become the list's. */
static int ask_pages(struct cli_link *k, bool closed, size_t most, struct incident_lines *ret)
{
    PB(ContinuityCommand) m = REDOUBT__V1__CONTINUITY_COMMAND__INIT;
    char after[INCIDENT_ASK_ID] = "";
    int code = CLI_OK;
    m.closed = closed;
    m.after = after;
    do {
        PB(IncidentList) *l = continuity_ask(k, "incidents", &m, PB_DESC(incident_list), &code);
        if (!l)
            return code;
        ret->open = l->open;
        ret->in_all = l->in_all;
        size_t n = l->n_incidents;
        for (size_t i = 0; i < n; i++) {
            if (ret->n < most) {
                take(ret, l->incidents[i]);
            } else {
                wire_free(l->incidents[i]);
                ret->more = true;
            }
        }
        l->n_incidents = 0;
        snprintf(after, sizeof after, "%s", n > 0 ? l->next : ""); /* an empty page that goes on would never end */
        wire_free(l);
    } while (*after && ret->n < most && !k->interrupted);
    ret->more = ret->more || *after;
    ret->live = true;
    return code;
}

static int newest_first(const void *a, const void *b)
{
    const PB(IncidentChanged) *x = *(void *const *)a, *y = *(void *const *)b;
    if (x->evidence_unix_ms != y->evidence_unix_ms)
        return x->evidence_unix_ms < y->evidence_unix_ms ? 1 : -1;
    return strcmp(y->id, x->id);
}

static char *moved(char **text)
{
    char *t = *text;
    *text = (char *)protobuf_c_empty_string;
    return t;
}

/* A line of a document, which loses its texts to it. */
static PB(IncidentLine) * line_of(PB(IncidentChanged) * d)
{
    PB(IncidentLine) *l = malloc(sizeof *l);
    if (!l)
        abort();
    *l = (PB(IncidentLine))REDOUBT__V1__INCIDENT_LINE__INIT;
    l->id = moved(&d->id);
    l->key = moved(&d->key);
    l->summary = moved(&d->summary);
    l->owner = moved(&d->owner);
    l->phase = d->phase;
    l->failure_kind = d->failure_kind;
    l->severity = d->severity;
    l->agents_total = d->agents_total;
    l->open_signals = d->open_signals;
    l->evidence_unix_ms = d->evidence_unix_ms;
    l->closed_unix_ms = d->closed_unix_ms;
    l->drill = d->drill;
    size_t at = incident_view_nearest(d);
    if (at < d->n_clocks) {
        l->nearest = d->clocks[at];
        memmove(d->clocks + at, d->clocks + at + 1, (--d->n_clocks - at) * sizeof *d->clocks);
    }
    return l;
}

static int read_lines(struct cli_link *k, bool closed, size_t most, struct incident_lines *ret)
{
    struct docs d;
    int code = read_docs(k, SUBJECT_CONTINUITY_INCIDENT ">", PB_DESC(incident_changed), &d);
    if (d.n > 0)
        qsort(d.at, d.n, sizeof *d.at, newest_first);
    for (size_t i = 0; i < d.n; i++) {
        PB(IncidentChanged) *doc = d.at[i];
        bool open = doc->phase != PHASE(CLOSED);
        ret->in_all++;
        ret->open += open;
        if (!open && !closed)
            continue;
        if (ret->n < most)
            take(ret, line_of(doc));
        else
            ret->more = true;
    }
    docs_free(&d);
    return code;
}

int incident_ask_lines(struct cli_link *k, bool closed, size_t most, struct incident_lines *ret)
{
    *ret = (struct incident_lines){0};
    int code = ask_pages(k, closed, most, ret);
    if (code != CLI_UNREACHABLE)
        return code;
    incident_lines_free(ret);
    return read_lines(k, closed, most, ret);
}

void incident_lines_free(struct incident_lines *l)
{
    for (size_t i = 0; i < l->n; i++)
        wire_free(l->at[i]);
    free(l->at);
    *l = (struct incident_lines){0};
}

/* ---- one ---- */

/* "a, b, c": the ids that begin alike. */
static int say_several(struct cli_link *k, const char *text, const struct incident_lines *l, const char *which)
{
    char ids[MATCHES_MAX * INCIDENT_ASK_ID] = "", clean[INCIDENT_ASK_ID];
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++) {
        if (strncmp(l->at[i]->id, text, strlen(text)) != 0 && strcmp(l->at[i]->key, text) != 0)
            continue;
        size_t used = strlen(ids);
        if (n++ < MATCHES_MAX)
            snprintf(ids + used, sizeof ids - used, "%s%s", used ? " " : "",
                     term_clean(l->at[i]->id, 0, clean, sizeof clean));
    }
    return cli_fail(k->c, CLI_USAGE, "`%s` is %s of %zu incidents: %s%s", text, which, n, ids,
                    n > MATCHES_MAX ? " ..." : "");
}

static int resolve(struct cli_link *k, const char *text, char ret[static INCIDENT_ASK_ID], bool *ret_live)
{
    struct incident_lines l;
    size_t begin = 0, keyed = 0;
    const char *by_begin = NULL, *by_key = NULL, *found = NULL;
    if (!*text || strlen(text) >= 2 * INCIDENT_ASK_ID)
        return cli_fail(k->c, CLI_USAGE, "`%s` is no incident's id; `redoubt incident list` shows them", text);
    int code = incident_ask_lines(k, true, SIZE_MAX, &l);
    *ret_live = l.live;
    for (size_t i = 0; code == CLI_OK && i < l.n && !found; i++) {
        const PB(IncidentLine) *x = l.at[i];
        if (strcmp(x->id, text) == 0)
            found = x->id;
        else if (strncmp(x->id, text, strlen(text)) == 0 && ++begin)
            by_begin = x->id;
        else if (strcmp(x->key, text) == 0 && x->phase != PHASE(CLOSED) && ++keyed)
            by_key = x->id;
    }
    if (code != CLI_OK)
        ;
    else if (found || (found = begin == 1 ? by_begin : begin == 0 && keyed == 1 ? by_key : NULL))
        snprintf(ret, INCIDENT_ASK_ID, "%s", found);
    else if (begin > 1)
        code = say_several(k, text, &l, "the beginning");
    else if (keyed > 1)
        code = say_several(k, text, &l, "the key");
    else
        code = cli_fail(k->c, l.live ? CLI_REFUSED : CLI_UNREACHABLE,
                        "no incident `%s` is known; `redoubt incident list --all` shows those that are", text);
    incident_lines_free(&l);
    return code;
}

int incident_ask_id(struct cli_link *k, const char *text, char ret[static INCIDENT_ASK_ID])
{
    bool live;
    return resolve(k, text, ret, &live);
}

/* From the service; NULL if it does not answer. */
static PB(IncidentChanged) * by_id(struct cli_link *k, const char *id)
{
    PB(ContinuityCommand) m = REDOUBT__V1__CONTINUITY_COMMAND__INIT;
    PB(CommandReply) *r = NULL;
    PB(IncidentChanged) *doc = NULL;
    m.incident = (char *)id;
    m.by = CONTINUITY_ASKS;
    if (cli_ask_again(k, "continuity", "incident", &m, &r) == CLI_OK &&
        r->status == REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK)
        doc = wire_unpack(PB_DESC(incident_changed), r->payload.data, r->payload.len, NULL);
    wire_free(r);
    return doc;
}

int incident_ask_one(struct cli_link *k, const char *text, PB(IncidentChanged) * *ret, bool *ret_live)
{
    char id[INCIDENT_ASK_ID] = "", subject[SUBJECT_MAX_LEN];
    *ret = NULL;
    int code = resolve(k, text, id, ret_live);
    if (code != CLI_OK || (*ret_live && (*ret = by_id(k, id))))
        return code;
    *ret_live = false;
    snprintf(subject, sizeof subject, SUBJECT_CONTINUITY_INCIDENT "%s", id);
    *ret = continuity_ask_doc(k, subject, PB_DESC(incident_changed));
    return *ret ? CLI_OK : cli_fail(k->c, CLI_UNREACHABLE, "incident %s is not on stream " STREAM_STATE, id);
}

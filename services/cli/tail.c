/* tail.c - live events by core NATS; the past, when asked for, by a consumer of our own on each stream, sorted by time. */
#include "cli/tail.h"
#include "cli/cli_bus.h"
#include "cli/event_line.h"
#include "cli/subject_match.h"
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define ALL_SUBJECTS     SUBJECT_PREFIX ">"
#define ACK_PENDING      500     /* how far the server may run ahead of us in the past */
#define HISTORY_MAX      1000000 /* lines of the past that are kept for sorting */
#define HISTORY_WAIT_MS  30000
#define STREAMS_MAX      16
#define CONSUMER_IDLE_NS 30000000000LL /* the server forgets our consumer this long after we are gone */

/* A line of the past, waiting for the older ones of other streams. */
struct past {
    int64_t at_ns;
    size_t order;
    char *text;
};

struct tail;
struct source { /* one stream being replayed */
    struct tail *t;
    const struct bus_stream *stream;
    struct bus_sub *sub;
    char inbox[SUBJECT_MAX_LEN];
    bool synced; /* the past has come whole */
};
struct tail {
    struct cli_link link;
    struct tail_opts o;
    const char *subject; /* what is wanted */
    bool unfiltered;     /* no subject was named */
    struct source sources[STREAMS_MAX];
    size_t n_sources;
    bool replaying;
    bool all_synced;
    bool done;
    struct past *past;
    size_t n_past, cap_past;
    int64_t shown;
    FILE *out; /* stdout, or the memory of one line of the past */
};

/* ---- one event ---- */

static void show_json(struct tail *t, const struct bus_msg *m, const void *message, const char *why)
{
    char now[CLOCK_TEXT_MAX];
    char *text = message ? wire_json(message) : NULL;
    json_t *body = text ? json_loads(text, 0, NULL) : NULL;
    json_t *j =
        json_pack("{s:s, s:s, s:s?, s:s?, s:s?, s:o?, s:s?, s:I}", "received", clock_text(clock_wall_ms(), now),
                  "subject", m->subject, "id", m->id, "type", message ? wire_type(message) : m->type, "source",
                  m->source, "message", body, "error", why, "bytes", (json_int_t)m->len);
    if (j) {
        json_dumpf(j, t->out, JSON_COMPACT | JSON_ENSURE_ASCII);
        fputc('\n', t->out);
    }
    json_decref(j);
    free(text);
}

static void show_line(struct tail *t, const struct bus_msg *m, const void *message, const char *why)
{
    struct event_line l = {.kind = "?", .entity = "", .colour = TERM_PLAIN};
    char entity[192], text[1400], at[EVENT_TIME_MAX];
    char *json = NULL;
    struct term term = t->link.c->out;
    term.file = t->out;
    bool known = message && event_line(message, &l);
    if (!known) {
        const char *tail = subject_tail(m->subject, SUBJECT_PREFIX);
        l.entity = tail ? tail : m->subject;
        if (message && (json = wire_json(message)))
            snprintf(l.text, sizeof l.text, "%s", json);
        else
            snprintf(l.text, sizeof l.text, "%zu bytes that cannot be read: %s", m->len, why ? why : "unknown kind");
        l.colour = message ? TERM_PLAIN : TERM_RED;
    }
    int64_t now = clock_wall_ms();
    event_time(l.at_unix_ms ? l.at_unix_ms : now, now, at);
    term_print(&term, TERM_DIM, "%s", at);
    term_print(&term, TERM_BOLD, "  %-9s", l.kind);
    term_clean(l.entity, 0, entity, sizeof entity);
    size_t width = term_width(entity);
    fprintf(t->out, "  %s%*s  ", entity, width < 24 ? (int)(24 - width) : 0, "");
    term_print(&term, l.colour, "%s\n", term_clean(l.text, 0, text, sizeof text));
    free(json);
}

static void show(struct tail *t, const struct bus_msg *m)
{
    struct err e = {""};
    const ProtobufCMessageDescriptor *desc = m->type ? wire_by_name(m->type) : NULL;
    if (!desc)
        desc = wire_by_subject(m->subject);
    void *message = desc ? wire_unpack(desc, m->data, m->len, &e) : NULL;
    const char *why = message ? NULL : desc ? e.text : "no message is known for this subject";
    if (t->o.json)
        show_json(t, m, message, why);
    else
        show_line(t, m, message, why);
    wire_free(message);
}

/* Shows now, on stdout. */
static void show_now(struct tail *t, const struct bus_msg *m)
{
    if (t->done)
        return;
    t->out = stdout;
    show(t, m);
    if (fflush(stdout) || (t->o.count > 0 && ++t->shown >= t->o.count))
        t->done = true;
}

static bool wanted(const struct tail *t, const char *subject)
{
    if (!subject_covers(t->subject, subject))
        return false;
    bool noise = subject_tail(subject, SUBJECT_HEARTBEAT) || subject_tail(subject, SUBJECT_REPORT) ||
                 subject_tail(subject, SUBJECT_CMD "fallback.state");
    noise = noise || strcmp(subject, SUBJECT_CMD "fallback.state") == 0 ||
            subject_tail(subject, SUBJECT_OBSERVATION) || subject_tail(subject, SUBJECT_TRAFFIC) ||
            subject_tail(subject, SUBJECT_DECISION) || subject_tail(subject, SUBJECT_SHARED) ||
            strcmp(subject, SUBJECT_CMD "rollback.state") == 0;
    /* What is said again and again, and documents of what an event has told. */
    noise = noise || strcmp(subject, SUBJECT_CONTINUITY_TIME) == 0 ||
            strcmp(subject, SUBJECT_CONTINUITY_STATUS) == 0 || subject_tail(subject, SUBJECT_CONTINUITY_INCIDENT) ||
            subject_tail(subject, SUBJECT_CONTINUITY_AGENT) || strcmp(subject, SUBJECT_CMD "continuity.status") == 0;
    return !(t->unfiltered && !t->o.all && noise);
}

/* ---- live ---- */

static void on_live(void *ctx, const struct bus_msg *m)
{
    struct tail *t = ctx;
    if (!wanted(t, m->subject))
        return;
    /* While a stream's own consumer delivers, its subjects come from there; after a lost connection they come here. */
    for (size_t i = 0; t->replaying && i < t->n_sources; i++)
        for (const char *const *s = t->sources[i].stream->subjects; *s; s++)
            if (subject_covers(*s, m->subject))
                return;
    show_now(t, m);
}

/* ---- the past ---- */

/* Time and number pending from the reply subject of a JetStream delivery: $JS.ACK.[domain.account.]stream.consumer.
 * deliveries.stream_seq.consumer_seq.nanoseconds.pending[.token]. */
static bool delivery_of(const char *reply, int64_t *ret_ns, uint64_t *ret_pending)
{
    const char *tokens[16];
    size_t n = 0;
    for (const char *p = reply; p && n < 16; p = strchr(p, '.'), p = p ? p + 1 : NULL)
        tokens[n++] = p;
    if (!reply || strncmp(reply, "$JS.ACK.", 8) != 0 || (n != 9 && n < 11))
        return false;
    size_t base = n == 9 ? 7 : 9;
    *ret_ns = strtoll(tokens[base], NULL, 10);
    *ret_pending = strtoull(tokens[base + 1], NULL, 10);
    return true;
}

static int by_time(const void *a, const void *b)
{
    const struct past *x = a, *y = b;
    if (x->at_ns != y->at_ns)
        return x->at_ns < y->at_ns ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

static void print_past(struct tail *t)
{
    if (t->n_past > 0)
        qsort(t->past, t->n_past, sizeof *t->past, by_time);
    for (size_t i = 0; i < t->n_past; i++) {
        if (!t->done) {
            fputs(t->past[i].text, stdout);
            t->done = ferror(stdout) || (t->o.count > 0 && ++t->shown >= t->o.count);
        }
        free(t->past[i].text);
    }
    free(t->past);
    t->past = NULL;
    t->n_past = t->cap_past = 0;
    fflush(stdout);
}

static void synced(struct source *s)
{
    struct tail *t = s->t;
    s->synced = true;
    for (size_t i = 0; i < t->n_sources; i++)
        if (!t->sources[i].synced)
            return;
    t->all_synced = true;
}

static void keep_past(struct tail *t, const struct bus_msg *m, int64_t at_ns)
{
    if (t->n_past == HISTORY_MAX)
        return;
    if (t->n_past == t->cap_past) {
        t->cap_past = t->cap_past ? 2 * t->cap_past : 256;
        t->past = reallocarray(t->past, t->cap_past, sizeof *t->past);
        if (!t->past)
            abort();
    }
    char *text = NULL;
    size_t len = 0;
    t->out = open_memstream(&text, &len);
    if (!t->out)
        return;
    show(t, m);
    fclose(t->out);
    t->past[t->n_past] = (struct past){.at_ns = at_ns, .order = t->n_past, .text = text};
    t->n_past++;
}

static void on_stored(void *ctx, const struct bus_msg *m)
{
    struct source *s = ctx;
    struct tail *t = s->t;
    int64_t at_ns;
    uint64_t pending;
    if (!delivery_of(m->reply, &at_ns, &pending))
        return;
    struct bus_out ack = {.subject = m->reply, .data = "+ACK", .len = 4};
    (void)bus_publish(t->link.bus, &ack, NULL);
    if (wanted(t, m->subject)) {
        if (t->all_synced && t->past == NULL)
            show_now(t, m);
        else
            keep_past(t, m, at_ns);
    }
    if (!s->synced && pending == 0)
        synced(s);
}

static void on_created(void *ctx, enum bus_status st, const struct bus_msg *m)
{
    struct source *s = ctx;
    json_t *j = st == BUS_OK ? json_loadb(m->data, m->len, 0, NULL) : NULL;
    const char *why = json_string_value(json_object_get(json_object_get(j, "error"), "description"));
    json_t *pending = json_object_get(j, "num_pending");
    /* What was delivered before this answer was written is on its way, and the last of it ends the past. */
    json_t *sent = json_object_get(json_object_get(j, "delivered"), "consumer_seq");
    if (st == BUS_CLOSED) {
        /* ended meanwhile */
    } else if (!pending) {
        fprintf(stderr, "redoubt tail: no past from stream %s: %s\n", s->stream->name,
                why ? why : bus_status_text(st));
        bus_unsubscribe(s->sub);
        s->sub = NULL;
        synced(s);
    } else if (json_integer_value(pending) == 0 && json_integer_value(sent) == 0) {
        synced(s);
    }
    json_decref(j);
}

static void ask_past(struct source *s, const char *filter)
{
    struct tail *t = s->t;
    char subject[SUBJECT_MAX_LEN];
    s->sub = bus_subscribe(t->link.bus, cli_inbox(&t->link, s->inbox), NULL, on_stored, s);
    snprintf(subject, sizeof subject, "$JS.API.CONSUMER.CREATE.%s", s->stream->name);
    json_t *config =
        json_pack("{s:s, s:s, s:s, s:s, s:i, s:I, s:s*}", "deliver_subject", s->inbox, "deliver_policy", "all",
                  "ack_policy", "explicit", "replay_policy", "instant", "max_ack_pending", ACK_PENDING,
                  "inactive_threshold", (json_int_t)CONSUMER_IDLE_NS, "filter_subject", filter);
    json_t *j = json_pack("{s:s, s:o}", "stream_name", s->stream->name, "config", config);
    char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
    if (!text)
        abort();
    struct bus_out o = {.subject = subject, .data = text, .len = strlen(text)};
    bus_request(t->link.bus, &o, t->link.c->timeout_ms, on_created, s);
    free(text);
    json_decref(j);
}

static void replay(struct tail *t)
{
    t->replaying = true;
    for (size_t i = 0; i < bus_streams_n && t->n_sources < STREAMS_MAX; i++) {
        const struct bus_stream *st = &bus_streams[i];
        bool overlaps = false;
        const char *filter = NULL; /* the server takes one only if it lies within the stream's subjects */
        for (const char *const *s = st->subjects; *s; s++) {
            overlaps = overlaps || subject_overlaps(*s, t->subject);
            if (subject_covers(*s, t->subject))
                filter = t->subject;
        }
        if (!overlaps || st->work_queue) /* a second consumer on a work queue is refused, and would take its work */
            continue;
        struct source *s = &t->sources[t->n_sources++];
        *s = (struct source){.t = t, .stream = st};
        ask_past(s, filter);
    }
    if (t->n_sources == 0)
        t->all_synced = true;
    int64_t until = clock_mono_ms() + HISTORY_WAIT_MS;
    while (!t->all_synced && !t->link.interrupted && t->link.downs == 0 && clock_mono_ms() < until)
        loop_run_until(&t->link.loop, &t->all_synced, 100);
    t->all_synced = true;
    print_past(t);
}

/* Our consumers may or may not have survived; the live subscription has. What is missed meanwhile is said. */
static void leave_past(struct tail *t)
{
    for (size_t i = 0; i < t->n_sources; i++) {
        bus_unsubscribe(t->sources[i].sub);
        t->sources[i].sub = NULL;
    }
    t->n_sources = 0;
    t->replaying = false;
}

static void say_connection(struct tail *t, uint64_t *downs, bool *up)
{
    if (t->link.downs != *downs)
        fprintf(stderr, "redoubt tail: the connection was lost: events may be missing here\n");
    else if (t->link.up && !*up)
        fprintf(stderr, "redoubt tail: connected again\n");
    *downs = t->link.downs;
    *up = t->link.up;
}

int tail_run(struct cli *c, const char *subject, const struct tail_opts *o)
{
    struct tail *t = calloc(1, sizeof *t);
    if (!t)
        return cli_fail(c, CLI_FAILED, "out of memory");
    t->o = *o;
    t->subject = subject ? subject : ALL_SUBJECTS;
    t->unfiltered = !subject;
    int code = cli_link_open(&t->link, c);
    struct bus_sub *sub = NULL;
    if (code == CLI_OK && !(sub = bus_subscribe(t->link.bus, t->subject, NULL, on_live, t)))
        code = cli_fail(c, CLI_USAGE, "`%s` is no subject; see `redoubt help tail`", t->subject);
    if (code == CLI_OK) {
        if (o->replay)
            replay(t);
        uint64_t downs = t->link.downs;
        bool up = t->link.up;
        int64_t until = o->limit_ms ? clock_mono_ms() + o->limit_ms : INT64_MAX;
        while (!t->done && !t->link.interrupted && clock_mono_ms() < until) {
            int64_t left = until - clock_mono_ms();
            loop_run_until(&t->link.loop, &t->done, left < 500 ? left : 500);
            say_connection(t, &downs, &up);
            if (t->replaying && downs > 0)
                leave_past(t);
        }
        if (ferror(stdout))
            code = CLI_FAILED;
    }
    bus_unsubscribe(sub);
    leave_past(t);
    cli_link_close(&t->link);
    free(t);
    return code;
}

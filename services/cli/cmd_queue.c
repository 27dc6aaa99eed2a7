/* cmd_queue.c - redoubt queue: the actions that wait for their backend. */
#include "cli/cli_bus.h"
#include "cli/cmd.h"
#include "cli/event_line.h"
#include "cli/status_view.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 50 /* of a listing */

/* The unpacked payload of a guard's answer; NULL after saying why, with the exit code in *ret. An empty payload is a message of zeroes. */
static void *ask(struct cli_link *k, const char *verb, const PB(GuardCommand) * m,
                 const ProtobufCMessageDescriptor *desc, int *ret)
{
    PB(CommandReply) *r = NULL;
    struct err e = {""};
    char text[1100];
    void *got = NULL;
    *ret = cli_ask(k, "guard", verb, m, &r);
    if (*ret != CLI_OK)
        return NULL;
    if (r->status != REDOUBT__V1__COMMAND_STATUS__COMMAND_STATUS_OK)
        *ret = cli_fail(k->c, CLI_REFUSED, "refused: %s", term_clean(r->message, 0, text, sizeof text));
    else if (r->payload.len == 0)
        got = protobuf_c_message_unpack(desc, NULL, 0, NULL);
    else if (!(got = wire_unpack(desc, r->payload.data, r->payload.len, &e)))
        *ret = cli_fail(k->c, CLI_FAILED, "the answer cannot be read: %s", e.text);
    wire_free(r);
    return got;
}

static void print_json(const void *message)
{
    json_t *j = status_message_json(message);
    json_dumpf(j, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(j);
}

/* ---- list ---- */

static void print_list(const PB(QueueReport) * q, const struct term *t)
{
    static const struct term_column columns[] = {
        {"AGENT", false}, {"WAITING", true}, {"OLDEST", true}, {"STATE", false}};
    int64_t now = clock_wall_ms();
    char span[32], text[300];
    if (q->n_agents > 0) {
        struct term_table *tab = term_table_begin(columns, 4);
        for (size_t i = 0; i < q->n_agents; i++) {
            const PB(QueueOfAgent) *a = q->agents[i];
            term_cell(tab, TERM_PLAIN, "%s", a->agent);
            term_cell(tab, TERM_PLAIN, "%" PRIu64, a->waiting);
            term_cell(tab, TERM_PLAIN, "%s",
                      a->oldest_unix_ms
                          ? cli_span(now > a->oldest_unix_ms ? now - a->oldest_unix_ms : 0, span, sizeof span)
                          : "?");
            term_cell(tab, a->held ? TERM_YELLOW : TERM_PLAIN, "%s%s", a->held ? "HELD: " : "",
                      term_clean(a->state, 0, text, sizeof text));
        }
        term_table_end(tab, t, "");
    }
    printf("%" PRIu64 " actions wait, %" PRIu64 " bytes", q->waiting, q->bytes);
    if (q->max_bytes > 0)
        printf(" of %" PRIu64, q->max_bytes);
    putchar('\n');
}

int cmd_queue_list(struct cli *c, const void *opts, int argc, char **argv)
{
    const struct opts_show *o = opts;
    struct cli_link link;
    PB(GuardCommand) m = REDOUBT__V1__GUARD_COMMAND__INIT;
    m.agent = argc ? argv[0] : m.agent;
    m.limit = PAGE; /* a message of zeroes would be no message */
    int code = cli_link_open(&link, c);
    PB(QueueReport) *q = code == CLI_OK ? ask(&link, "queue_list", &m, PB_DESC(queue_report), &code) : NULL;
    if (q && o->json)
        print_json(q);
    else if (q)
        print_list(q, &c->out);
    wire_free(q);
    cli_link_close(&link);
    return code;
}

/* ---- show ---- */

static void parameters(const PB(ActionRequest) * r, char *buf, size_t size)
{
    size_t at = 0;
    buf[0] = 0;
    for (size_t i = 0; i < r->n_parameters && at < size; i++)
        at += (size_t)snprintf(buf + at, size - at, "%s%s=%s", i ? " " : "", r->parameters[i]->key,
                               r->parameters[i]->value);
}

static void print_entries(PB(QueueEntry) * *entries, size_t n, const struct term *t)
{
    static const struct term_column columns[] = {{"SEQUENCE", true},   {"PRIORITY", true}, {"QUEUED", true},
                                                 {"EPOCH", true},      {"ACTION", false},  {"KEY", false},
                                                 {"PARAMETERS", false}};
    int64_t now = clock_wall_ms();
    struct term_table *tab = term_table_begin(columns, 7);
    for (size_t i = 0; i < n; i++) {
        const PB(QueuedAction) *a = entries[i]->action;
        char when[EVENT_TIME_MAX], list[512], text[512];
        parameters(a->request, list, sizeof list);
        term_cell(tab, TERM_DIM, "%" PRIu64, entries[i]->sequence);
        term_cell(tab, TERM_PLAIN, "%" PRIu32, a->request->priority);
        term_cell(tab, TERM_PLAIN, "%s", event_time(a->queued_unix_ms, now, when));
        term_cell(tab, TERM_PLAIN, "%" PRIu64, a->request->epoch);
        term_cell(tab, TERM_PLAIN, "%s", term_clean(a->request->action, 0, text, sizeof text));
        term_cell(tab, TERM_PLAIN, "%s", term_clean(a->request->idempotency_key, 0, text, sizeof text));
        term_cell(tab, TERM_PLAIN, "%s", term_clean(list, 60, text, sizeof text));
    }
    term_table_end(tab, t, "");
}

/* Pages, until there are as many as wanted. */
static int read_entries(struct cli_link *k, const char *agent, size_t most, PB(QueueEntry) * **ret, size_t *ret_n,
                        uint64_t *ret_next)
{
    PB(GuardCommand) m = REDOUBT__V1__GUARD_COMMAND__INIT;
    int code = CLI_OK;
    *ret = NULL;
    *ret_n = 0;
    *ret_next = 0;
    m.agent = (char *)agent;
    do {
        m.limit = (uint32_t)(most - *ret_n < PAGE ? most - *ret_n : PAGE);
        PB(QueueListing) *l = ask(k, "queue_show", &m, PB_DESC(queue_listing), &code);
        if (!l)
            return code;
        PB(QueueEntry) **more = realloc(*ret, (*ret_n + l->n_entries + 1) * sizeof *more);
        if (!more)
            abort();
        *ret = more;
        for (size_t i = 0; i < l->n_entries; i++)
            more[(*ret_n)++] = l->entries[i];
        l->n_entries = 0; /* they are ours now */
        *ret_next = m.from_sequence = l->next_sequence;
        wire_free(l);
    } while (m.from_sequence != 0 && *ret_n < most && !k->interrupted);
    return code;
}

int cmd_queue_show(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc;
    const struct opts_queue_show *o = opts;
    struct cli_link link;
    PB(QueueEntry) **entries = NULL;
    size_t n = 0;
    uint64_t next = 0;
    int code = cli_link_open(&link, c);
    if (code == CLI_OK)
        code = read_entries(&link, argv[0], (size_t)o->count, &entries, &n, &next);
    if (code == CLI_OK && o->json) {
        PB(QueueListing) all = REDOUBT__V1__QUEUE_LISTING__INIT;
        all.n_entries = n;
        all.entries = entries;
        all.next_sequence = next;
        print_json(&all);
    } else if (code == CLI_OK && n == 0) {
        printf("nothing waits for %s\n", argv[0]);
    } else if (code == CLI_OK) {
        print_entries(entries, n, &c->out);
        if (next != 0)
            printf("more wait: -n N shows as many\n");
    }
    for (size_t i = 0; i < n; i++)
        wire_free(entries[i]);
    free(entries);
    cli_link_close(&link);
    return code;
}

/* ---- drop and release ---- */

static int command(struct cli *c, const char *verb, PB(GuardCommand) * m, const char *by, const char *reason)
{
    if (!by || !reason)
        return cli_fail(c, CLI_USAGE, "--by NAME and --reason TEXT are required: they land in the audit trail");
    m->by = (char *)by;
    m->reason = (char *)reason;
    return cli_give(c, "guard", verb, m);
}

int cmd_queue_drop(struct cli *c, const void *opts, int argc, char **argv)
{
    const struct opts_drop *o = opts;
    PB(GuardCommand) m = REDOUBT__V1__GUARD_COMMAND__INIT;
    if (o->all == (argc > 1))
        return cli_fail(c, CLI_USAGE, "name one action by its KEY, or say --all");
    m.agent = argv[0];
    if (argc > 1)
        m.idempotency_key = argv[1];
    return command(c, "queue_drop", &m, o->by, o->reason);
}

int cmd_queue_release(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc;
    const struct opts_order *o = opts;
    PB(GuardCommand) m = REDOUBT__V1__GUARD_COMMAND__INIT;
    m.agent = argv[0];
    return command(c, "queue_release", &m, o->by, o->reason);
}

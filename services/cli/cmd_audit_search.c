/* cmd_audit_search.c - redoubt audit search and export: the records of trails that fit, by time, each with its evidence. */
#include "cli/audit_evidence.h"
#include "cli/cmd.h"
#include "cli/event_line.h"
#include "common/clock.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static bool fits(void *ctx, const PB(AuditRecord) * r)
{
    return audit_query_fits(ctx, r);
}

/* ---- forms ---- */

struct form {
    const char *name;
    void (*begin)(const struct evidence *ev);
    void (*record)(struct evidence *ev, const struct evidence_hit *h, const struct evidence_record *rec, bool first);
    void (*end)(void);
};

static void text_record(struct evidence *ev, const struct evidence_hit *h, const struct evidence_record *rec,
                        bool first)
{
    struct event_line l = {0};
    char at[CLOCK_TEXT_MAX], text[sizeof l.text + 64], subject[300];
    (void)first;
    event_line(rec->r, &l);
    printf("%s  ", clock_text(h->at_unix_ms, at));
    if (ev->n_trails > 1)
        printf("%s", ev->trails[h->trail].dirs[0]);
    printf("#%-6" PRIu64 "  %-16s ", h->seq, term_clean(rec->r->subject, 0, subject, sizeof subject));
    term_print(&ev->c->out, l.colour, "%s", term_clean(l.text, 0, text, sizeof text));
    putchar('\n');
}

static void lines_begin(const struct evidence *ev)
{
    json_t *trails = evidence_trails_json(ev), *t;
    size_t i;
    json_array_foreach(trails, i, t)
    {
        json_dumpf(t, stdout, JSON_COMPACT);
        putchar('\n');
    }
    json_decref(trails);
}

/* The evidence, and the record as the contract has it. */
static void one_object(const struct evidence *ev, const struct evidence_hit *h, const struct evidence_record *rec)
{
    json_t *j = evidence_json(ev, h, rec);
    char *evidence = json_dumps(j, JSON_COMPACT), *record = wire_json(rec->r);
    if (evidence && record)
        printf("%.*s,\"record\":%s}", (int)strlen(evidence) - 1, evidence, record);
    free(evidence);
    free(record);
    json_decref(j);
}

static void lines_record(struct evidence *ev, const struct evidence_hit *h, const struct evidence_record *rec,
                         bool first)
{
    (void)first;
    one_object(ev, h, rec);
    putchar('\n');
}

static void json_begin(const struct evidence *ev)
{
    json_t *trails = evidence_trails_json(ev);
    char *text = json_dumps(trails, JSON_COMPACT);
    printf("{\"trails\":%s,\n\"records\":[", text ? text : "[]");
    free(text);
    json_decref(trails);
}

static void json_record(struct evidence *ev, const struct evidence_hit *h, const struct evidence_record *rec,
                        bool first)
{
    fputs(first ? "\n" : ",\n", stdout);
    one_object(ev, h, rec);
}

static void json_end(void)
{
    puts("]}");
}

static void csv_begin(const struct evidence *ev)
{
    (void)ev;
    fputs("whole,at,id,service,instance,class,action,actor,subject,outcome,epoch,detail,fields,trail,chain,sequence,"
          "hash,"
          "file,offset,checkpoint_size\r\n",
          stdout);
}

static void csv_fields(const PB(AuditRecord) * r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->n_fields; i++)
        json_array_append_new(list, json_pack("{s:s, s:s}", "key", r->fields[i]->key, "value", r->fields[i]->value));
    char *text = json_dumps(list, JSON_COMPACT);
    evidence_csv(text && r->n_fields ? text : "", false);
    free(text);
    json_decref(list);
}

static void csv_record(struct evidence *ev, const struct evidence_hit *h, const struct evidence_record *rec,
                       bool first)
{
    char at[CLOCK_TEXT_MAX];
    const PB(AuditRecord) *r = rec->r;
    const struct evidence_trail *t = &ev->trails[h->trail];
    (void)first;
    const char *const cells[] = {evidence_whole(t) ? "yes" : "NO",
                                 clock_text(h->at_unix_ms, at),
                                 r->id,
                                 r->service,
                                 r->instance,
                                 EVENT_NAME(audit_class, r->audit_class),
                                 r->action,
                                 r->actor,
                                 r->subject,
                                 EVENT_NAME(audit_outcome, r->outcome)};
    for (size_t i = 0; i < sizeof cells / sizeof *cells; i++)
        evidence_csv(cells[i], i == 0);
    printf(",%" PRIu64, r->epoch);
    evidence_csv(r->detail, false);
    csv_fields(r);
    evidence_csv(t->dirs[0], false);
    printf(",%s,%" PRIu64 ",%s,%s,%" PRIu64 ",", t->chain, h->seq, rec->hash, rec->file, h->offset);
    if (evidence_covered(t, h->seq))
        printf("%" PRIu64, t->report.checkpoint.size);
    fputs("\r\n", stdout);
}

static const struct form forms[] = {
    {"text", NULL, text_record, NULL},
    {"jsonl", lines_begin, lines_record, NULL},
    {"json", json_begin, json_record, json_end},
    {"csv", csv_begin, csv_record, NULL},
};

static const struct form *form_of(const char *name)
{
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (strcmp(forms[i].name, name) == 0)
            return &forms[i];
    return NULL;
}

/* ---- the commands ---- */

static int show(struct evidence *ev, const struct form *f, int64_t limit)
{
    struct err e = {""};
    size_t from = limit > 0 && (uint64_t)limit < ev->n_hits ? ev->n_hits - (size_t)limit : 0;
    if (f->begin)
        f->begin(ev);
    int code = CLI_OK;
    for (size_t i = from; i < ev->n_hits; i++) {
        struct evidence_record rec;
        if (evidence_read(ev, &ev->hits[i], &rec, &e)) {
            code = cli_fail(ev->c, CLI_FAILED, "%s", e.text);
            continue;
        }
        f->record(ev, &ev->hits[i], &rec, i == from);
        wire_free(rec.r);
    }
    if (f->end)
        f->end();
    return fflush(stdout) || ferror(stdout) ? cli_fail(ev->c, CLI_FAILED, "cannot write the output") : code;
}

static int run(struct cli *c, const struct opts_audit_query *o, const struct form *f, int argc, char **argv)
{
    struct audit_query q;
    struct evidence ev;
    struct term err;
    term_init(&err, stderr);
    int code = evidence_query(c, o, &q);
    if (code != CLI_OK)
        return code;
    code = evidence_open(&ev, c, o->config, argc, argv);
    bool opened = code == CLI_OK;
    if (opened)
        code = evidence_look(&ev, fits, &q);
    if (opened && code != CLI_USAGE) {
        evidence_say(&ev, f->begin ? &err : &c->out);
        int shown = show(&ev, f, o->limit);
        code = code == CLI_OK ? shown : code;
    }
    evidence_close(&ev);
    return code;
}

int cmd_audit_search(struct cli *c, const void *opts, int argc, char **argv)
{
    const struct opts_audit_query *o = opts;
    return run(c, o, form_of(o->json ? "jsonl" : "text"), argc, argv);
}

int cmd_audit_export(struct cli *c, const void *opts, int argc, char **argv)
{
    const struct opts_audit_query *o = opts;
    const struct form *f = form_of(o->format);
    if (!f || !f->begin)
        return cli_fail(c, CLI_USAGE, "--format: found `%s`; allowed: jsonl, json, csv", o->format);
    return run(c, o, f, argc, argv);
}

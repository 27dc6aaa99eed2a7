/* audit_evidence_say.c - evidence in words, as JSON and as CSV; and the filters as options. */
#include "cli/audit_evidence.h"
#include "cli/cmd.h"
#include "common/clock.h"
#include <inttypes.h>
#include <sodium.h>
#include <string.h>

void evidence_say(const struct evidence *ev, const struct term *t)
{
    char text[ERR_TEXT_MAX + 64];
    for (size_t i = 0; i < ev->n_trails; i++) {
        const struct evidence_trail *x = &ev->trails[i];
        const struct audit_problem *p = &x->report.problems[0];
        if (x->report.n_problems) {
            term_print(t, TERM_RED, "NOT WHOLE: ");
            fprintf(t->file, "%s: %zu problem%s; the first: %s at byte %" PRIu64 ", record %" PRIu64 ": %s\n",
                    x->dirs[0], x->report.n_problems, x->report.n_problems == 1 ? "" : "s", p->file, p->offset,
                    p->seq, term_clean(p->what, 0, text, sizeof text));
        }
        if (x->unread) {
            term_print(t, TERM_RED, "NOT ALL SHOWN: ");
            fprintf(t->file, "%s: %" PRIu64 " records cannot be read by this version, from record %" PRIu64 " on\n",
                    x->dirs[0], x->unread, x->unread_seq);
        }
    }
    if (ev->twins)
        fprintf(t->file, "%zu record%s in the trails of two replicas, shown once: an acknowledgement was lost\n",
                ev->twins, ev->twins == 1 ? " stands" : "s stand");
    fflush(t->file);
}

static json_t *checkpoint_json(const struct evidence_trail *t)
{
    char at[CLOCK_TEXT_MAX], key[2 * AUDIT_PUBLIC_BYTES + 1];
    const struct audit_checkpoint *c = &t->report.checkpoint;
    if (!t->report.checkpointed)
        return json_null();
    sodium_bin2hex(key, sizeof key, t->report.keys.list[c->rotations < t->report.keys.n ? c->rotations : 0].key,
                   AUDIT_PUBLIC_BYTES);
    return json_pack("{s:I, s:s, s:s}", "size", (json_int_t)c->size, "at", clock_text(c->at_unix_ms, at), "key", key);
}

json_t *evidence_trails_json(const struct evidence *ev)
{
    json_t *list = json_array();
    for (size_t i = 0; i < ev->n_trails; i++) {
        const struct evidence_trail *t = &ev->trails[i];
        json_t *problems = json_array();
        for (size_t k = 0; k < t->report.n_problems && k < AUDIT_PROBLEMS_MAX; k++) {
            const struct audit_problem *p = &t->report.problems[k];
            json_array_append_new(problems,
                                  json_pack("{s:s, s:I, s:I, s:s}", "file", p->file, "offset", (json_int_t)p->offset,
                                            "sequence", (json_int_t)p->seq, "what", p->what));
        }
        json_array_append_new(list, json_pack("{s:s, s:s, s:b, s:I, s:I, s:I, s:o, s:I, s:o}", "trail", t->dirs[0],
                                              "chain", t->chain, "whole", evidence_whole(t), "records",
                                              (json_int_t)t->report.records, "pruned", (json_int_t)t->report.pruned,
                                              "unread", (json_int_t)t->unread, "checkpoint", checkpoint_json(t),
                                              "n_problems", (json_int_t)t->report.n_problems, "problems", problems));
    }
    return list;
}

json_t *evidence_json(const struct evidence *ev, const struct evidence_hit *h, const struct evidence_record *rec)
{
    const struct evidence_trail *t = &ev->trails[h->trail];
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:I, s:o}", "trail", t->dirs[0], "chain", t->chain, "sequence",
                     (json_int_t)h->seq, "hash", rec->hash, "file", rec->file, "offset", (json_int_t)h->offset,
                     "checkpoint", evidence_covered(t, h->seq) ? checkpoint_json(t) : json_null());
}

void evidence_csv(const char *text, bool first)
{
    if (!first)
        putchar(',');
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, stdout);
        return;
    }
    putchar('"');
    for (const char *p = text; *p; p++) {
        if (*p == '"')
            putchar('"');
        putchar(*p);
    }
    putchar('"');
}

static int read_time(const struct cli *c, const char *name, const char *text, int64_t *ret)
{
    *ret = text ? audit_query_time(text, clock_wall_ms()) : 0;
    if (*ret < 0)
        return cli_fail(c, CLI_USAGE,
                        "--%s: found `%s`; allowed: 2026-01-31, 2026-01-31T09:05:01Z, milliseconds since 1970, or "
                        "how long ago: 24h",
                        name, text);
    return CLI_OK;
}

int evidence_query(const struct cli *c, const struct opts_audit_query *o, struct audit_query *ret)
{
    *ret = (struct audit_query){.id = o->id,
                                .action = o->action,
                                .actor = o->actor,
                                .subject = o->subject,
                                .service = o->service,
                                .text = o->text,
                                .field = o->field};
    if (o->audit_class && !(ret->audit_class = audit_query_class(o->audit_class)))
        return cli_fail(c, CLI_USAGE, "--class: found `%s`; allowed: strict, continuity, gap", o->audit_class);
    if (o->outcome && !(ret->outcome = audit_query_outcome(o->outcome)))
        return cli_fail(c, CLI_USAGE, "--outcome: found `%s`; allowed: intended, done, failed, refused", o->outcome);
    if (o->field && !strchr(o->field, '='))
        return cli_fail(c, CLI_USAGE, "--field: found `%s`; allowed: KEY=VALUE", o->field);
    int code = read_time(c, "since", o->since, &ret->since_unix_ms);
    return code == CLI_OK ? read_time(c, "until", o->until, &ret->until_unix_ms) : code;
}

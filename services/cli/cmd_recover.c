/* cmd_recover.c - redoubt recover list, run: a site from its backups, step by step, with the time of each. */
#include "cli/cli_bus.h"
#include "cli/recover.h"
#include "common/clock.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const ends[] = {
    [RECOVER_OK] = "restored", [RECOVER_FAILED] = "FAILED", [RECOVER_REFUSED] = "refused"};

static const char *age(int64_t point_ms, char *buf, size_t size)
{
    int64_t ms = clock_wall_ms() - point_ms;
    return cli_span(ms > 0 ? ms : 0, buf, size);
}

static void print_json(json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT);
    printf("%s\n", text ? text : "{}");
    free(text);
    json_decref(json);
}

/* ---- list ---- */

static void list_json(const struct recover *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->n; i++) {
        const struct recover_source *s = &r->sources[i];
        const struct recover_copy *c = &s->copies[0];
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I}", "source", s->name, "kind",
                                        s->kind, "snapshot", c->id, "pointUnixMs", (json_int_t)c->point_ms, "ageMs",
                                        (json_int_t)(clock_wall_ms() - c->point_ms), "copies", (json_int_t)s->all,
                                        "files", (json_int_t)c->sum.files, "bytes", (json_int_t)c->sum.bytes));
    }
    print_json(json_pack("{s:o}", "sources", list));
}

static void list_table(const struct recover *r)
{
    static const struct term_column columns[] = {{"SOURCE", false}, {"KIND", false}, {"SNAPSHOT", false},
                                                 {"POINT", false},  {"AGE", true},   {"COPIES", true},
                                                 {"FILES", true},   {"BYTES", true}};
    struct term_table *t = term_table_begin(columns, sizeof columns / sizeof *columns);
    for (size_t i = 0; i < r->n; i++) {
        const struct recover_source *s = &r->sources[i];
        const struct recover_copy *c = &s->copies[0];
        char text[CLOCK_TEXT_MAX], span[64], name[80];
        term_cell(t, TERM_BOLD, "%s", term_clean(s->name, 0, name, sizeof name));
        term_cell(t, TERM_PLAIN, "%s", term_clean(s->kind, 0, name, sizeof name));
        term_cell(t, TERM_DIM, "%.8s", c->id);
        term_cell(t, TERM_PLAIN, "%s", clock_text(c->point_ms, text));
        term_cell(t, TERM_PLAIN, "%s", age(c->point_ms, span, sizeof span));
        term_cell(t, TERM_PLAIN, "%zu", s->all);
        term_cell(t, TERM_PLAIN, "%" PRIu64, c->sum.files);
        term_cell(t, TERM_PLAIN, "%" PRIu64, c->sum.bytes);
    }
    term_table_end(t, &r->c->out, "");
}

int cmd_recover_list(struct cli *c, const void *opts, int argc, char **argv)
{
    const struct opts_recover *o = opts;
    struct recover *r = calloc(1, sizeof *r);
    (void)argc;
    (void)argv;
    if (!r)
        return cli_fail(c, CLI_FAILED, "out of memory");
    int code = recover_open(r, c, o);
    if (code == CLI_OK && r->n == 0)
        code = cli_fail(c, CLI_FAILED, "%s holds no copies of the suite (tags redoubt, source=, kind=)",
                        o->repository ? o->repository : "the repository");
    else if (code == CLI_OK && o->json)
        list_json(r);
    else if (code == CLI_OK)
        list_table(r);
    recover_close(r);
    free(r);
    return code;
}

/* ---- run ---- */

/* Is it one of the names, or of the kinds? */
static bool chosen(const char *from, const struct recover_source *s)
{
    for (const char *p = from; p && *p;) {
        size_t n = strcspn(p, ",");
        if ((n == strlen(s->name) && strncmp(p, s->name, n) == 0) ||
            (n == strlen(s->kind) && strncmp(p, s->kind, n) == 0))
            return true;
        p += n + (p[n] == ',');
    }
    return !from;
}

static bool all_known(const struct recover *r, char *name, size_t size)
{
    for (const char *p = r->o->from; p && *p;) {
        size_t n = strcspn(p, ",");
        bool known = false;
        for (size_t i = 0; i < r->n && !known; i++) {
            char one[2 * 65];
            snprintf(one, sizeof one, "%.*s", (int)n, p);
            known = strcmp(one, r->sources[i].name) == 0 || strcmp(one, r->sources[i].kind) == 0;
        }
        if (!known) {
            snprintf(name, size, "%.*s", (int)n, p);
            return false;
        }
        p += n + (p[n] == ',');
    }
    return true;
}

static void step(struct recover *r, const struct recover_source *s, struct recover_step *ret)
{
    int64_t began = clock_mono_ms();
    struct err first = {""};
    size_t i = 0;
    *ret = (struct recover_step){.source = s->name, .kind = s->kind, .end = RECOVER_FAILED};
    for (bool bad = true; bad && i < s->n; i++) {
        struct err e = {""};
        ret->copy = &s->copies[i];
        ret->end = recover_step_run(r, s, ret->copy, ret->detail, sizeof ret->detail, &bad, &e);
        if (ret->end == RECOVER_OK)
            break;
        if (i == 0)
            first = e;
        snprintf(ret->detail, sizeof ret->detail, "%s", e.text);
    }
    if (ret->end == RECOVER_OK && i > 0) {
        size_t len = strlen(ret->detail);
        snprintf(ret->detail + len, sizeof ret->detail - len, "; NOT the newest copy: %.200s", first.text);
    }
    ret->took_ms = clock_mono_ms() - began;
}

static void show_step(const struct cli *c, const struct recover_step *s)
{
    char span[64], old[64], text[sizeof s->detail];
    term_print(&c->out, s->end == RECOVER_OK ? TERM_GREEN : TERM_RED, "%-9s", ends[s->end]);
    printf(" %s (%s) of %s ago, in %s: %s\n", s->source, s->kind, age(s->copy->point_ms, old, sizeof old),
           cli_span(s->took_ms, span, sizeof span), term_clean(s->detail, 0, text, sizeof text));
    fflush(stdout);
}

static void show_table(const struct recover *r, const struct recover_step *steps, size_t n, int64_t took_ms)
{
    static const struct term_column columns[] = {{"STEP", false}, {"SOURCE", false}, {"POINT", false},
                                                 {"AGE", true},   {"RESULT", false}, {"TOOK", true}};
    struct term_table *t = term_table_begin(columns, sizeof columns / sizeof *columns);
    char text[CLOCK_TEXT_MAX], span[64];
    for (size_t i = 0; i < n; i++) {
        const struct recover_step *s = &steps[i];
        term_cell(t, TERM_PLAIN, "%s", s->kind);
        term_cell(t, TERM_BOLD, "%s", s->source);
        term_cell(t, TERM_PLAIN, "%s", clock_text(s->copy->point_ms, text));
        term_cell(t, TERM_PLAIN, "%s", age(s->copy->point_ms, span, sizeof span));
        term_cell(t, s->end == RECOVER_OK ? TERM_GREEN : TERM_RED, "%s", ends[s->end]);
        term_cell(t, TERM_PLAIN, "%s", cli_span(s->took_ms, span, sizeof span));
    }
    putchar('\n');
    term_table_end(t, &r->c->out, "");
    printf("\nin all %s\n", cli_span(took_ms, span, sizeof span));
}

static void show_json(const struct recover_step *steps, size_t n, int64_t took_ms, bool ok)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        const struct recover_step *s = &steps[i];
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:I, s:s, s:I, s:s}", "source", s->source, "kind",
                                              s->kind, "snapshot", s->copy->id, "pointUnixMs",
                                              (json_int_t)s->copy->point_ms, "result", ends[s->end], "tookMs",
                                              (json_int_t)s->took_ms, "detail", s->detail));
    }
    print_json(json_pack("{s:b, s:I, s:o}", "ok", ok, "tookMs", (json_int_t)took_ms, "steps", list));
}

/* Into the restored record of the bus: so it comes into the restored trail. */
static void record(const struct recover *r, const struct recover_step *steps, size_t n, bool ok)
{
    const struct opts_recover *o = r->o;
    const char *user = getenv("USER");
    char detail[900] = "";
    size_t len = 0;
    struct err e = {""};
    for (size_t i = 0; i < n && len < sizeof detail - 100; i++)
        len += (size_t)snprintf(detail + len, sizeof detail - len, "%s%.64s %s from %.8s", i ? ", " : "",
                                steps[i].source, ends[steps[i].end], steps[i].copy->id);
    struct recover_state x = {.c = r->c, .config = r->settings ? r->config : NULL, .nats = o->nats};
    if (recover_record(&x, o->force ? "recover.forced" : "recover.run",
                       o->by           ? o->by
                       : user && *user ? user
                                       : "operator",
                       o->reason ? o->reason : "", ok, detail, &e))
        fprintf(stderr, "the trail has no record of this: %s\n", e.text);
}

static int recover(struct recover *r)
{
    struct recover_step *steps = calloc(RECOVER_SOURCES, sizeof *steps);
    int64_t began = clock_mono_ms();
    bool ok = true, refused = false, nats = false;
    size_t n = 0;
    if (!steps)
        return cli_fail(r->c, CLI_FAILED, "out of memory");
    for (size_t i = 0; i < r->n; i++) {
        const struct recover_source *s = &r->sources[i];
        if (!chosen(r->o->from, s))
            continue;
        step(r, s, &steps[n]);
        if (!r->o->json)
            show_step(r->c, &steps[n]);
        ok = ok && steps[n].end == RECOVER_OK;
        refused = refused || steps[n].end == RECOVER_REFUSED;
        nats = nats || (strcmp(s->kind, "nats") == 0 && steps[n].end == RECOVER_OK);
        n++;
    }
    int64_t took = clock_mono_ms() - began;
    if (nats)
        record(r, steps, n, ok);
    if (r->o->json)
        show_json(steps, n, took, ok);
    else
        show_table(r, steps, n, took);
    free(steps);
    return ok ? CLI_OK : refused ? CLI_REFUSED : CLI_FAILED;
}

int cmd_recover_run(struct cli *c, const void *opts, int argc, char **argv)
{
    const struct opts_recover *o = opts;
    struct recover *r = calloc(1, sizeof *r);
    char name[140];
    (void)argc;
    (void)argv;
    if (!r)
        return cli_fail(c, CLI_FAILED, "out of memory");
    int code = recover_open(r, c, o);
    snprintf(r->config, sizeof r->config, "%s", o->config ? o->config : cli_config_path(c));
    snprintf(r->data_dir, sizeof r->data_dir, "%s", o->data_dir ? o->data_dir : "");
    if (code == CLI_OK && r->n == 0)
        code = cli_fail(c, CLI_FAILED, "the repository holds no copies of the suite (tags redoubt, source=, kind=)");
    else if (code == CLI_OK && !all_known(r, name, sizeof name))
        code = cli_fail(c, CLI_USAGE, "--from: no source and no kind `%s`; `redoubt recover list` has them", name);
    if (code == CLI_OK) {
        recover_settings(r);
        code = recover(r);
    }
    recover_close(r);
    free(r);
    return code;
}

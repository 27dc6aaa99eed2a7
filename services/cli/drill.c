/* drill.c - the runner: plays a story's steps, looks for their marks, tells the timeline, cleans up whatever happens. */
#include "cli/drill.h"
#include "cli/event_line.h"
#include "common/clock.h"
#include <assert.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DRILL_TICK_MS 20
#define PAGE_EVERY_MS 20
#define PAGE_LIMIT_MS 1000
#define CLOSE_MS      1000
#define TAIL_LINES    15
#define CRASH_LINES   80 /* of a process that ended by itself: a sanitizer says a lot */
#define MARK_COLUMN   20 /* where a mark's text begins on its line */
#define DETAIL_COLUMN 38 /* where a mark's detail begins, after its text */

/* ---- seeing ---- */

void drill_fail(struct drill *d, const char *fmt, ...)
{
    if (d->failed)
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(d->why, sizeof d->why, fmt, ap);
    va_end(ap);
    d->failed = true;
}

static void moment(struct drill_moment *m, int64_t at_ms, const char *detail)
{
    m->seen = true;
    m->at_ms = at_ms;
    term_clean(detail, 0, m->detail, sizeof m->detail);
}

static void say_mark(const struct drill *d, const struct drill_mark *m, const struct drill_moment *at)
{
    const struct term *t = &d->c->out;
    int64_t ms = at->at_ms - d->acts[d->step].at_ms;
    fprintf(t->file, "   %+9.3f s  ", (double)ms / 1000);
    term_print(t, TERM_GREEN, "ok");
    fprintf(t->file, "  %s", m->text);
    if (*at->detail) {
        char cut[sizeof at->detail];
        size_t width = term_width(m->text), from = width < DETAIL_COLUMN ? DETAIL_COLUMN : width;
        size_t columns = (size_t)t->columns, used = MARK_COLUMN + from + 2;
        fprintf(t->file, "%*s", (int)(from - width), "");
        term_print(t, TERM_DIM, "  %s",
                   term_clean(at->detail, columns > used + 8 ? columns - used : 0, cut, sizeof cut));
    }
    fputc('\n', t->file);
    fflush(t->file);
}

/* From when on the mark may be seen; INT64_MAX = not yet. */
static int64_t seen_from(const struct drill *d, const struct drill_mark *marks, size_t i)
{
    if (!marks[i].after)
        return 0;
    for (size_t k = 0; k < i; k++)
        if (strcmp(marks[k].key, marks[i].after) == 0)
            return d->marks[d->step][k].seen ? d->marks[d->step][k].at_ms : INT64_MAX;
    assert(false && "a mark waits only for one that is before it");
    return 0;
}

/* Asks every mark of the present step that is not seen yet. True if all are. */
static bool look_around(struct drill *d)
{
    const struct drill_step *s = &d->story->steps[d->step];
    bool all = true;
    for (size_t i = 0; i < DRILL_MARKS_MAX && s->marks[i].key; i++) {
        const struct drill_mark *m = &s->marks[i];
        struct drill_moment *at = &d->marks[d->step][i];
        char detail[512] = "";
        int64_t from = seen_from(d, s->marks, i);
        if (!at->seen && m->look && from != INT64_MAX && m->look(d, m, detail, sizeof detail))
            moment(at, clock_mono_ms(), detail);
        for (size_t k = 0; !at->seen && m->message && k < d->n_events; k++)
            if (d->events[k].at_ms >= from && m->message(d, m, d->events[k].message, detail, sizeof detail))
                moment(at, d->events[k].at_ms, detail);
        if (at->seen && !at->told)
            say_mark(d, m, at);
        at->told = at->seen;
        all = all && at->seen;
    }
    return all;
}

static void forget_events(struct drill *d)
{
    for (size_t i = 0; i < d->n_events; i++)
        wire_free(d->events[i].message);
    d->n_events = 0;
}

void drill_take(struct drill *d, void *message)
{
    if (d->n_events == d->cap_events) {
        d->cap_events = d->cap_events ? 2 * d->cap_events : 256;
        d->events = reallocarray(d->events, d->cap_events, sizeof *d->events);
        if (!d->events)
            abort();
    }
    drill_ledger_note(&d->ledger, message);
    d->events[d->n_events++] = (struct drill_event){.at_ms = clock_mono_ms(), .message = message};
}

/* ---- pages ---- */

void drill_watch_page(struct drill *d, const char *name, const char *url)
{
    assert(d->n_pages < DRILL_WATCH_MAX);
    struct drill_page *p = &d->pages[d->n_pages++];
    *p = (struct drill_page){.drill = d, .name = name};
    snprintf(p->url, sizeof p->url, "%s", url);
}

const json_t *drill_page(const struct drill *d, const char *name)
{
    for (size_t i = 0; i < d->n_pages; i++)
        if (strcmp(d->pages[i].name, name) == 0)
            return d->pages[i].json;
    return NULL;
}

size_t drill_executed(const struct drill *d)
{
    const json_t *page = drill_page(d, "backend");
    size_t n = json_array_size(json_object_get(page, "actions"));
    return n ? n : (size_t)json_integer_value(json_object_get(json_object_get(page, "ledger"), "executed"));
}

static void on_page(void *ctx, const struct http_result *r)
{
    struct drill_page *p = ctx;
    json_t *j = r->fault == HTTP_OK && r->status == 200 ? json_loadb(r->body, r->len, 0, NULL) : NULL;
    p->asking = false;
    p->next_ms = clock_mono_ms() + PAGE_EVERY_MS;
    if (j) {
        json_decref(p->json);
        p->json = j;
    }
}

static void look_at_pages(struct drill *d)
{
    for (size_t i = 0; i < d->n_pages; i++) {
        struct drill_page *p = &d->pages[i];
        if (p->asking || clock_mono_ms() < p->next_ms)
            continue;
        struct http_request r = {.url = p->url, .timeout_ms = PAGE_LIMIT_MS, .max_response = 4 << 20};
        p->asking = true;
        (void)http_start(d->http, &r, NULL, on_page, p);
    }
}

/* ---- a step ---- */

static void show_log(struct drill *d, const char *name, size_t lines)
{
    const struct term *t = &d->c->out;
    char *tail = drill_stack_tail(&d->stack, name, lines);
    term_print(t, TERM_BOLD, "  --- end of %s/log/%s.log\n", d->stack.dir, name);
    for (char *save = NULL, *line = tail ? strtok_r(tail, "\n", &save) : NULL; line;
         line = strtok_r(NULL, "\n", &save)) {
        char clean[1200];
        fprintf(t->file, "  | %s\n", term_clean(line, 0, clean, sizeof clean));
    }
    free(tail);
}

static void show_failure(struct drill *d, const struct drill_proc *surprise)
{
    const struct drill_step *s = &d->story->steps[d->step];
    const struct term *t = &d->c->out;
    term_print(t, TERM_RED, "   FAILED  %s: %s\n", s->text, d->why);
    for (size_t i = 0; i < DRILL_MARKS_MAX && s->marks[i].key; i++)
        if (!d->marks[d->step][i].seen)
            fprintf(t->file, "           missing: %s\n", s->marks[i].text);
    if (surprise)
        show_log(d, surprise->name, CRASH_LINES);
    for (size_t i = 0; i < DRILL_LOGS_MAX && s->logs[i]; i++)
        if (!surprise || strcmp(surprise->name, s->logs[i]) != 0)
            show_log(d, s->logs[i], TAIL_LINES);
    fflush(t->file);
}

static void play_step(struct drill *d)
{
    const struct drill_step *s = &d->story->steps[d->step];
    const struct term *t = &d->c->out;
    struct drill_moment *act = &d->acts[d->step];
    struct err e = {""};
    struct drill_proc *surprise = NULL;
    forget_events(d);
    d->seen.executed = drill_executed(d);
    drill_stack_note_logs(&d->stack);
    moment(act, clock_mono_ms(), "");
    fprintf(t->file, "%8.3f s  ", (double)(act->at_ms - d->began_ms) / 1000);
    term_print(t, s->failure ? TERM_RED : TERM_BOLD, "%s\n", s->text);
    fflush(t->file);
    if (s->act && s->act(d, s, &e))
        drill_fail(d, "%s", e.text);
    int64_t until = act->at_ms + s->limit_ms;
    bool over_all = d->began_ms + d->story->limit_ms < until;
    if (over_all)
        until = d->began_ms + d->story->limit_ms;
    while (!d->failed && !look_around(d)) {
        bool never = false;
        look_at_pages(d);
        loop_run_until(&d->loop, &never, DRILL_TICK_MS);
        surprise = drill_stack_reap(&d->stack);
        if (d->interrupted) {
            drill_fail(d, "interrupted");
        } else if (surprise) {
            char how[64];
            drill_fail(d, "%s ended by itself: %s", surprise->name, drill_stack_end_text(surprise, how, sizeof how));
        } else if (clock_mono_ms() > until) {
            drill_fail(d, over_all ? "the whole drill took longer than its %.0f s" : "not all of it within %.1f s",
                       (double)(over_all ? d->story->limit_ms : s->limit_ms) / 1000);
        }
    }
    if (d->failed)
        show_failure(d, surprise);
}

/* ---- the whole ---- */

static void on_signal(uv_signal_t *h, int signum)
{
    (void)signum;
    ((struct drill *)h->data)->interrupted = true;
}

static void set_true(void *ctx)
{
    *(bool *)ctx = true;
}

static void close_connections(struct drill *d)
{
    bool closed = false;
    if (d->bus) {
        bus_close(d->bus, CLOSE_MS, set_true, &closed);
        loop_run_until(&d->loop, &closed, 2 * CLOSE_MS);
    }
    if (d->http) {
        closed = false;
        http_close(d->http, set_true, &closed);
        loop_run_until(&d->loop, &closed, 2 * CLOSE_MS);
    }
    forget_events(d);
    free(d->events);
}

static void show_kept(struct drill *d)
{
    FILE *f = d->c->out.file;
    char self[DRILL_PATH];
    if (drill_stack_self(self, sizeof self, NULL))
        snprintf(self, sizeof self, "redoubt");
    fprintf(f,
            "\nThe stack stays up in %s\n"
            "  look    %s status --watch -c %s/redoubt.yaml\n"
            "          %s tail --replay -c %s/redoubt.yaml\n"
            "  logs    %s/log/*.log\n",
            d->stack.dir, self, d->stack.dir, self, d->stack.dir, d->stack.dir);
    if (d->story->hints)
        d->story->hints(d);
    fprintf(f, "  end     %s drill stop %s\n", self, d->stack.dir);
}

static int prepare(struct drill *d, struct err *e)
{
    const struct drill_story *s = d->story;
    return s->plan ? drill_town_prepare(d, s->plan, e) : s->prepare(d, e);
}

static void play(struct drill *d, const char *bin_dir, bool keep)
{
    const struct term *t = &d->c->out;
    struct err e = {""};
    uv_signal_t signals[3];
    static const int caught[3] = {SIGINT, SIGTERM, SIGHUP};
    /* First of all: the janitor must be hired while this process has one thread. */
    if (!d->story->running && drill_stack_open(&d->stack, bin_dir, keep, &e)) {
        drill_fail(d, "%s", e.text);
        return;
    }
    if (loop_init(&d->loop)) {
        drill_fail(d, "no event loop");
        return;
    }
    for (int i = 0; i < 3; i++) {
        uv_signal_init(&d->loop.uv, &signals[i]);
        signals[i].data = d;
        uv_signal_start(&signals[i], on_signal, caught[i]);
    }
    if (!(d->http = http_open(&d->loop, &e)) || prepare(d, &e)) {
        drill_fail(d, "%s", e.text);
    } else {
        const char *login = strrchr(d->nats_url, '@'); /* is nobody's business */
        term_print(t, TERM_BOLD, "redoubt drill %s: ", d->story->name);
        fprintf(t->file, "%s\n%s%s%s\n\n", d->story->title, d->stack.dir, *d->stack.dir ? ", " : "",
                login ? login + 1 : d->nats_url);
    }
    for (d->step = 0; d->step < d->story->n_steps && !d->failed; d->step++)
        if (!(keep && d->story->steps[d->step].ends))
            play_step(d);
    if (d->story->leave)
        d->story->leave(d);
    close_connections(d);
    loop_done(&d->loop);
}

static int run(struct cli *c, const struct drill_story *story, const char *url, bool keep, const char *bin_dir,
               const char *json)
{
    struct drill *d = calloc(1, sizeof *d);
    if (d) {
        d->acts = calloc(story->n_steps, sizeof *d->acts);
        d->marks = calloc(story->n_steps, sizeof *d->marks);
    }
    if (!d || !d->acts || !d->marks)
        abort();
    d->c = c;
    d->story = story;
    d->stack.janitor_fd = -1;
    snprintf(d->nats_url, sizeof d->nats_url, "%s", url);
    if (json && strcmp(json, "-") == 0)
        term_init(&c->out, stderr);
    d->began_ms = clock_mono_ms();
    play(d, bin_dir, keep);
    d->ended_ms = clock_mono_ms();
    int code = d->failed ? CLI_FAILED : CLI_OK;
    bool played = d->acts[0].seen;
    if (played)
        drill_show_figures(d);
    else
        cli_fail(c, 0, "%s", d->why);
    if (played && (json || !story->running) && drill_store_figures(d, json) != CLI_OK)
        code = CLI_FAILED;
    if (keep && played)
        show_kept(d);
    drill_stack_close(&d->stack);
    if (code == CLI_OK)
        term_print(&c->out, TERM_GREEN, "\nevery step happened, in %.1f s\n",
                   (double)(d->ended_ms - d->began_ms) / 1000);
    else if (played)
        term_print(&c->out, TERM_RED, "\nthe drill failed: %s\n", d->why);
    for (size_t i = 0; i < d->n_pages; i++)
        json_decref(d->pages[i].json);
    drill_ledger_free(&d->ledger);
    free(d->acts);
    free(d->marks);
    free(d);
    return code;
}

int drill_run(struct cli *c, const struct drill_story *story, bool keep, const char *bin_dir, const char *json)
{
    return run(c, story, "", keep, bin_dir, json);
}

int drill_run_at(struct cli *c, const struct drill_story *story, const char *url, const char *json)
{
    return run(c, story, url, false, NULL, json);
}

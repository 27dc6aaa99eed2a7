/* drill_result.c - a drill's figures: a table for people, and a JSON file with the same keys for every drill. */
#include "cli/drill.h"
#include "cli/drill_file.h"
#include "common/clock.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* "step" or "step.mark"; NULL if it never came. */
static const struct drill_moment *find_moment(const struct drill *d, const char *name)
{
    const char *dot = strchr(name, '.');
    size_t n = dot ? (size_t)(dot - name) : strlen(name);
    for (size_t i = 0; i < d->story->n_steps; i++) {
        const struct drill_step *s = &d->story->steps[i];
        if (strlen(s->key) != n || strncmp(s->key, name, n) != 0)
            continue;
        if (!dot)
            return d->acts[i].seen ? &d->acts[i] : NULL;
        for (size_t k = 0; k < DRILL_MARKS_MAX && s->marks[k].key; k++)
            if (strcmp(s->marks[k].key, dot + 1) == 0)
                return d->marks[i][k].seen ? &d->marks[i][k] : NULL;
    }
    return NULL;
}

/* -1 if one of its ends never came. */
static int64_t figure_ms(const struct drill *d, const struct drill_figure *f)
{
    const struct drill_moment *from = find_moment(d, f->from), *to = find_moment(d, f->to);
    return from && to ? to->at_ms - from->at_ms : -1;
}

static void show_actions(const struct drill *d, struct term_table *tab)
{
    struct drill_count n;
    drill_ledger_count(&d->ledger, drill_page(d, "backend"), &n);
    term_cell(tab, TERM_PLAIN, "actions lost");
    term_cell(tab, n.lost ? TERM_RED : TERM_BOLD, "%u", n.lost);
    term_cell(tab, TERM_DIM, "of %u that were accepted, %u of which had waited", n.accepted, n.queued);
    term_cell(tab, TERM_PLAIN, "actions doubled");
    term_cell(tab, n.doubled ? TERM_RED : TERM_BOLD, "%u", n.doubled);
    term_cell(tab, TERM_DIM, "of %u that the backend has executed; %u came again under their key", n.executed,
              n.repeated);
}

void drill_show_figures(struct drill *d)
{
    static const struct term_column columns[] = {{"MEASURED", false}, {"", true}, {"", false}};
    struct term_table *tab = term_table_begin(columns, 3);
    char span[32];
    for (size_t i = 0; i < d->story->n_figures; i++) {
        int64_t ms = figure_ms(d, &d->story->figures[i]);
        if (ms < 0) /* not reached: the failure has been told */
            continue;
        term_cell(tab, TERM_PLAIN, "%s", d->story->figures[i].key);
        term_cell(tab, TERM_BOLD, "%s", cli_span(ms, span, sizeof span));
        term_cell(tab, TERM_DIM, "%s", d->story->figures[i].text);
    }
    if (!d->story->running)
        show_actions(d, tab);
    fputc('\n', d->c->out.file);
    term_table_end(tab, &d->c->out, "  ");
}

static json_t *time_or_null(int64_t ms)
{
    return ms < 0 ? json_null() : json_integer(ms);
}

static json_t *measures(const struct drill *d)
{
    static const char *const keys[DRILL_MEASURES] = {"detection_ms", "fallback_ms", "ack_ms", "first_alert_ms",
                                                     "failback_ms"};
    struct drill_count n;
    json_t *j = json_object();
    assert(d->story->n_figures >= DRILL_MEASURES);
    for (size_t i = 0; i < DRILL_MEASURES; i++)
        json_object_set_new(j, keys[i], time_or_null(figure_ms(d, &d->story->figures[i])));
    /* On a suite that runs already, what was answered to whom is not heard. */
    static const char *const unknown[] = {"actions_asked",   "actions_accepted", "actions_queued",
                                          "actions_refused", "actions_executed", "actions_lost",
                                          "actions_doubled", "actions_repeated"};
    for (size_t i = 0; d->story->running && i < sizeof unknown / sizeof *unknown; i++)
        json_object_set_new(j, unknown[i], json_null());
    if (d->story->running)
        return j;
    drill_ledger_count(&d->ledger, drill_page(d, "backend"), &n);
    json_object_update_new(j, json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "actions_asked",
                                        (json_int_t)n.asked, "actions_accepted", (json_int_t)n.accepted,
                                        "actions_queued", (json_int_t)n.queued, "actions_refused",
                                        (json_int_t)n.refused, "actions_executed", (json_int_t)n.executed,
                                        "actions_lost", (json_int_t)n.lost, "actions_doubled", (json_int_t)n.doubled,
                                        "actions_repeated", (json_int_t)n.repeated));
    return j;
}

static json_t *result_json(const struct drill *d)
{
    json_t *steps = json_array(), *figures = json_array();
    for (size_t i = 0; i < d->story->n_steps && d->acts[i].seen; i++) {
        const struct drill_step *s = &d->story->steps[i];
        json_t *marks = json_array();
        for (size_t k = 0; k < DRILL_MARKS_MAX && s->marks[k].key; k++) {
            const struct drill_moment *m = &d->marks[i][k];
            json_array_append_new(marks, json_pack("{s:s, s:s, s:b, s:o, s:s}", "key", s->marks[k].key, "text",
                                                   s->marks[k].text, "seen", m->seen, "after_ms",
                                                   time_or_null(m->seen ? m->at_ms - d->acts[i].at_ms : -1), "detail",
                                                   m->detail));
        }
        json_array_append_new(steps, json_pack("{s:s, s:s, s:I, s:o}", "key", s->key, "text", s->text, "at_ms",
                                               (json_int_t)(d->acts[i].at_ms - d->began_ms), "marks", marks));
    }
    for (size_t i = 0; i < d->story->n_figures; i++) {
        const struct drill_figure *f = &d->story->figures[i];
        json_array_append_new(figures, json_pack("{s:s, s:s, s:o}", "key", f->key, "text", f->text, "ms",
                                                 time_or_null(figure_ms(d, f))));
    }
    char now[CLOCK_TEXT_MAX];
    return json_pack("{s:s, s:b, s:b, s:s, s:s, s:I, s:o, s:o, s:o}", "drill", d->story->name, "live",
                     d->story->running, "ok", !d->failed, "why", d->why, "ended", clock_text(clock_wall_ms(), now),
                     "total_ms", (json_int_t)(d->ended_ms - d->began_ms), "measures", measures(d), "figures", figures,
                     "steps", steps);
}

int drill_store_figures(struct drill *d, const char *json)
{
    return drill_file_store(d->c, d->story->name, NULL, json, result_json(d));
}

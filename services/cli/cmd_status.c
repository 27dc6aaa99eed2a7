/* cmd_status.c - redoubt status: what lives, what is healthy, where each agent stands, and what is not normal. */
#include "cli/cmd.h"
#include "cli/present.h"
#include "cli/status_view.h"
#include "common/clock.h"
#include <stdlib.h>
#include <string.h>

#define POLL_MS   2000 /* --watch: how often what is not pushed is asked for */
#define SETTLE_MS 50   /* --watch: changes within this time are drawn once */

static void print_json(const struct present *p)
{
    json_t *j = status_json(&p->model);
    json_dumpf(j, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(j);
}

static void draw(const struct present *p, const struct opts_status *o)
{
    struct term *t = &p->link->c->out;
    if (o->json) {
        print_json(p);
    } else {
        term_measure(t);
        if (o->watch && t->tty)
            fputs("\033[H\033[2J", stdout);
        if (o->watch) {
            char now[CLOCK_TEXT_MAX];
            term_print(t, TERM_DIM, "%s  %s\n\n", clock_text(clock_wall_ms(), now),
                       p->link->up ? "" : "THE BUS IS LOST: this is what was known");
        }
        status_print(&p->model, t, clock_wall_ms());
    }
    fflush(stdout);
}

static void refresh(struct present *p)
{
    present_ask_services(p);
    present_ask_agents(p);
    present_ask_continuity(p);
}

/* Draws on each change; on a terminal also every POLL_MS, because "for 3.2 s" grows. */
static void watch(struct present *p, const struct opts_status *o)
{
    char *drawn = NULL;
    while (!p->link->interrupted && !ferror(stdout)) {
        json_t *j = status_json(&p->model);
        size_t replicas = p->model.n_instances;
        char *now = json_dumps(json_object_get(j, "problems"), JSON_COMPACT);
        bool differs = p->changed || !drawn || strcmp(drawn, now) != 0;
        if (differs || p->link->c->out.tty)
            draw(p, o);
        json_decref(j);
        free(drawn);
        drawn = now;
        p->changed = false;
        int64_t until = clock_mono_ms() + POLL_MS;
        while (!p->changed && !p->link->interrupted && clock_mono_ms() < until)
            loop_run_until(&p->link->loop, &p->changed, 100);
        if (p->changed) {
            bool never = false;
            loop_run_until(&p->link->loop, &never, SETTLE_MS);
            present_ask_agents(p);
        } else if (p->link->up) {
            refresh(p);
            p->changed = p->changed || replicas != p->model.n_instances;
        }
    }
    free(drawn);
}

int cmd_status(struct cli *c, const void *opts, int argc, char **argv)
{
    (void)argc, (void)argv;
    const struct opts_status *o = opts;
    struct cli_link link;
    struct present p = {0};
    int code = cli_link_open(&link, c);
    if (code == CLI_OK && (code = present_open(&p, &link, PRESENT_ALL)) == CLI_OK) {
        present_add_settings(&p);
        refresh(&p);
        if (o->watch)
            watch(&p, o);
        else
            draw(&p, o);
        code = status_problems(&p.model, NULL, NULL) == 0 ? CLI_OK : CLI_FAILED;
    }
    present_close(&p);
    cli_link_close(&link);
    return code;
}

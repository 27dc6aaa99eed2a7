/* executor_docker_run.c - runs a command once in a version's image, with its volumes and environment.
 *
 * The container goes by the job's and the command's own name: one that a crash has left is found, waited for, and not run a second time. It stays
 * until the job's containers are removed if it ended with 0, so that its end is known; a failed one is removed, and may be asked for anew. */
#include "rollback/executor_docker.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ACT_MS  60000
#define WAIT_MS 1800000 /* if the settings name no time for the learning data */

static void look(struct docker_op *op);

const char *docker_log_text(const char *body, size_t len, bool tty, char *buf, size_t size)
{
    size_t n = 0;
    for (size_t at = 0; at < len;) {
        size_t piece = len - at;
        if (!tty) { /* a byte for the stream, three of nothing, the length in four */
            if (piece < 8)
                break;
            const unsigned char *h = (const unsigned char *)body + at;
            size_t says = (size_t)h[4] << 24 | (size_t)h[5] << 16 | (size_t)h[6] << 8 | h[7];
            at += 8;
            piece = says < len - at ? says : len - at;
        }
        for (size_t i = 0; i < piece; i++) {
            char c = body[at + i];
            if ((unsigned char)c < ' ')
                c = ' ';
            if (n + 1 == size) { /* the end counts */
                memmove(buf, buf + 1, n - 1);
                n--;
            }
            buf[n++] = c;
        }
        at += piece;
    }
    while (n > 0 && buf[n - 1] == ' ')
        n--;
    buf[n] = '\0';
    return buf;
}

/* ---- its end ---- */

static void on_failed_removed(void *ctx, const struct docker_answer *a)
{
    struct docker_op *op = ctx;
    (void)a; /* left behind, it is removed with the job's containers */
    docker_op_end(op, false, false, "%s ended with %lld: %s", op->argv[0], op->code, op->said);
}

static void on_logs(void *ctx, const struct docker_answer *a)
{
    struct docker_op *op = ctx;
    const json_t *config = json_object_get(op->spec, "Config");
    docker_log_text(a->ok ? a->body : "", a->ok ? a->len : 0, json_is_true(json_object_get(config, "Tty")), op->said,
                    sizeof op->said);
    if (op->code == 0) {
        docker_op_end(op, true, false, "%s", op->said);
        return;
    }
    char path[DOCKER_PATH];
    snprintf(path, sizeof path, "/containers/%s?force=0&v=0", op->id);
    docker_op_call(op, "DELETE", path, NULL, ACT_MS, on_failed_removed);
}

static void on_end(void *ctx, const struct docker_answer *a)
{
    struct docker_op *op = ctx;
    char path[DOCKER_PATH];
    if (!a->ok) {
        docker_op_end(op, false, a->lasting, "%s", a->error);
        return;
    }
    op->code = json_integer_value(json_object_get(json_object_get(a->json, "State"), "ExitCode"));
    snprintf(path, sizeof path, "/containers/%s/logs?stdout=1&stderr=1&tail=40", op->id);
    docker_op_call(op, NULL, path, NULL, 0, on_logs);
}

static void ask_end(struct docker_op *op)
{
    char path[DOCKER_PATH];
    snprintf(path, sizeof path, "/containers/%s/json", op->id);
    docker_op_call(op, NULL, path, NULL, 0, on_end);
}

static void on_waited(void *ctx, const struct docker_answer *a)
{
    struct docker_op *op = ctx;
    if (a->ok)
        ask_end(op);
    else
        docker_op_end(op, false, a->lasting, "%s is not known to have ended: %s", op->argv[0], a->error);
}

/* ---- its begin ---- */

static void on_changed(void *ctx, const struct docker_answer *a)
{
    struct docker_op *op = ctx;
    bool conflict = a->status == 409 && ++op->conflicts < 3; /* an earlier call whose answer was lost */
    if (a->ok || conflict)
        look(op);
    else
        docker_op_end(op, false, a->lasting || a->status == 404, "%s", a->error);
}

static void create(struct docker_op *op, const struct docker_sight *s, const char *name)
{
    char path[DOCKER_PATH], escaped[400];
    /* What the version's first instance has: of the side that it stands on, or of what it took over. */
    const json_t *volumes = NULL;
    for (size_t i = 0; i < s->n && !volumes; i++)
        if (s->c[i].i.side == op->aim.side && strcmp(s->c[i].v.id, op->version) == 0)
            volumes = json_object_get(s->c[i].spec, "Unnamed");
    if (!volumes)
        volumes = docker_volumes_for(&op->aim, s, 0);
    struct docker_made m = {.deployment = op->x->set->name,
                            .job = op->job,
                            .version = op->version,
                            .image = op->image,
                            .volumes = volumes};
    json_t *body = docker_run_body(op->spec, &m, (const char *const *)op->argv);
    snprintf(path, sizeof path, "/containers/create?name=%s", docker_escape(name, escaped, sizeof escaped));
    docker_op_call(op, "POST", path, body, ACT_MS, on_changed);
    json_decref(body);
}

static void go_on(struct docker_op *op, const json_t *entry)
{
    const char *state = docker_text(entry, "State");
    int64_t wait_ms = op->x->set->data.timeout_ms > 0 ? op->x->set->data.timeout_ms : WAIT_MS;
    char path[DOCKER_PATH];
    snprintf(op->id, sizeof op->id, "%s", docker_text(entry, "Id"));
    if (strcmp(docker_text(json_object_get(entry, "Labels"), DOCKER_LABEL_RUN), op->job) != 0) {
        docker_op_end(op, false, true, "the name %s is taken by a container of somebody else: docker rename it",
                      docker_entry_name(entry));
    } else if (strcmp(state, "created") == 0) {
        snprintf(path, sizeof path, "/containers/%s/start", op->id);
        docker_op_call(op, "POST", path, NULL, ACT_MS, on_changed);
    } else if (strcmp(state, "exited") == 0 || strcmp(state, "dead") == 0) {
        ask_end(op);
    } else {
        snprintf(path, sizeof path, "/containers/%s/wait", op->id);
        docker_op_call(op, "POST", path, NULL, wait_ms, on_waited);
    }
}

static void on_look(void *ctx, const struct docker_sight *s)
{
    struct docker_op *op = ctx;
    char name[160];
    size_t i;
    const json_t *entry;
    op->look = NULL;
    if (!s->ok) {
        docker_op_end(op, false, s->lasting, "%s", s->error);
        return;
    }
    docker_run_name(&op->aim, (const char *const *)op->argv, name);
    json_array_foreach(s->list, i, entry)
    {
        if (strcmp(docker_entry_name(entry), name) == 0) {
            go_on(op, entry);
            return;
        }
    }
    if (!op->image[0])
        docker_op_end(op, false, op->image_lasting, "%s", op->image_error);
    else
        create(op, s, name);
}

static void look(struct docker_op *op)
{
    op->look = docker_look_start(op->x->api, op->x->set, &op->x->cache, on_look, op);
}

static void cannot(void *ctx)
{
    struct docker_op *op = ctx;
    if (op->x)
        docker_op_end(op, false, true, "there is no command, or how version %s is made was never recorded",
                      op->version);
    else
        docker_op_free(op);
}

void docker_run(struct executor *x, const struct executor_order *o, const char *const *argv, executor_cb cb,
                void *ctx)
{
    struct docker_op *op = docker_op_new(x, o, cb, ctx);
    size_t n = 0;
    if (!op)
        return;
    while (argv && argv[n])
        n++;
    if (!op->spec || n == 0) {
        op->deferred = true;
        loop_defer(&x->service->loop, cannot, op);
        return;
    }
    op->argv = calloc(n + 1, sizeof *op->argv);
    for (size_t i = 0; op->argv && i < n; i++)
        if (!(op->argv[i] = strdup(argv[i])))
            abort();
    if (!op->argv)
        abort();
    docker_op_image(op, look);
}

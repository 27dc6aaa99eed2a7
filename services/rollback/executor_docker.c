/* executor_docker.c - versions as containers of a Docker Engine, by its API over a unix socket: life, view, keep.
 *
 * Every act looks first (docker_look.c), takes the one next step (docker_steps.c), and looks again, until nothing is left to be done: after a
 * crash anywhere it is simply asked for anew. */
#include "rollback/executor_docker.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

/* ---- one act ---- */

void docker_op_free(struct docker_op *op)
{
    docker_look_free(op->look);
    json_decref(op->spec);
    json_decref(op->image_is);
    json_decref(op->questions);
    for (size_t i = 0; op->argv && op->argv[i]; i++)
        free(op->argv[i]);
    free(op->argv);
    free(op);
}

void docker_op_end(struct docker_op *op, bool ok, bool lasting, const char *fmt, ...)
{
    char text[800];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    struct executor_result r = {.ok = ok, .lasting = lasting, .text = text};
    DL_DELETE(op->x->ops, op);
    op->cb(op->ctx, &r);
    docker_op_free(op);
}

static void answer_bad_spec(void *ctx)
{
    struct docker_op *op = ctx;
    if (!op->x) { /* closed meanwhile */
        docker_op_free(op);
        return;
    }
    docker_op_end(op, false, true,
                  "the record of version %s is no spec of the docker executor: deploy the version once more, so that "
                  "it is recorded anew",
                  op->version);
}

static struct docker_op *new_op(struct executor *x)
{
    struct docker_op *op = calloc(1, sizeof *op);
    if (!op)
        abort(); /* somebody waits for its end */
    op->x = x;
    DL_APPEND(x->ops, op);
    return op;
}

static bool is_spec(const json_t *spec)
{
    static const char *const objects[] = {"Config", "HostConfig", "Networks", "Unnamed"};
    for (size_t i = 0; i < sizeof objects / sizeof *objects; i++)
        if (!json_is_object(json_object_get(spec, objects[i])))
            return false;
    return true;
}

struct docker_op *docker_op_new(struct executor *x, const struct executor_order *o, executor_cb cb, void *ctx)
{
    struct docker_op *op = new_op(x);
    op->cb = cb;
    op->ctx = ctx;
    snprintf(op->job, sizeof op->job, "%s", o->job ? o->job : "");
    snprintf(op->version, sizeof op->version, "%s", o->version ? o->version : "");
    snprintf(op->digest, sizeof op->digest, "%s", o->digest ? o->digest : "");
    op->aim = (struct docker_aim){
        .set = x->set, .job = op->job, .version = op->version, .side = o->side, .count = o->count};
    if (!o->spec || o->spec_len == 0)
        return op;
    op->spec = json_loadb(o->spec, o->spec_len, JSON_REJECT_DUPLICATES, NULL);
    op->aim.spec = op->spec;
    if (is_spec(op->spec))
        return op;
    op->deferred = true;
    loop_defer(&x->service->loop, answer_bad_spec, op);
    return NULL;
}

void docker_op_call(struct docker_op *op, const char *method, const char *path, const json_t *body,
                    int64_t timeout_ms, docker_cb cb)
{
    struct docker_request r = {.method = method, .path = path, .body = body, .timeout_ms = timeout_ms};
    docker_api_call(op->x->api, &r, cb, op);
}

/* ---- the image ---- */

void docker_keep_tag(const struct docker_op *op, char *buf, size_t size)
{
    snprintf(buf, size, "%.100s.%s", op->x->set->name, op->version);
}

void docker_no_image(const struct docker_op *op, char *buf, size_t size)
{
    const char *digest = docker_text(op->spec, "RepoDigest"), *ref = docker_text(op->spec, "Image");
    if (*digest)
        snprintf(buf, size, "the image of version %s is not on this host: docker pull %.200s", op->version, digest);
    else
        snprintf(buf, size,
                 "the image of version %s (%.100s, %.80s) is not on this host, and no registry is known to have it: "
                 "docker load or build it",
                 op->version, ref, op->digest);
}

static void image_known(struct docker_op *op, const struct docker_answer *a)
{
    if (a->ok && *docker_text(a->json, "Id")) {
        snprintf(op->image, sizeof op->image, "%s", docker_text(a->json, "Id"));
        json_decref(op->image_is);
        op->image_is = json_deep_copy(a->json);
    } else if (a->status == 404 || a->ok) {
        docker_no_image(op, op->image_error, sizeof op->image_error);
        op->image_lasting = true;
    } else {
        snprintf(op->image_error, sizeof op->image_error, "%s", a->error);
        op->image_lasting = a->lasting;
    }
    op->then(op);
}

static void on_kept_image(void *ctx, const struct docker_answer *a)
{
    image_known(ctx, a);
}

static void on_image(void *ctx, const struct docker_answer *a)
{
    struct docker_op *op = ctx;
    char tag[160], path[DOCKER_PATH];
    if (a->status != 404) {
        image_known(op, a);
        return;
    }
    docker_keep_tag(op, tag, sizeof tag);
    snprintf(path, sizeof path, "/images/%.200s:%s/json", op->x->set->docker.keep_repository, tag);
    docker_op_call(op, NULL, path, NULL, 0, on_kept_image);
}

void docker_op_image(struct docker_op *op, docker_then then)
{
    char path[DOCKER_PATH], escaped[400];
    op->then = then;
    snprintf(path, sizeof path, "/images/%s/json", docker_escape(op->digest, escaped, sizeof escaped));
    docker_op_call(op, NULL, path, NULL, 0, on_image);
}

/* ---- view ---- */

struct found {
    struct executor_instance *instances;
    struct executor_version *versions;
    size_t n, n_versions;
};

static void gaps_of(struct executor_version *v, const struct docker_container *c, const struct set_deployment *set)
{
    char gap[8][256];
    size_t n = docker_spec_gaps(c->spec, set->docker.port, gap, 8);
    v->n_gaps = n < 8 ? n : 8;
    memcpy(v->gap, gap, v->n_gaps * sizeof gap[0]);
    v->v.gaps = n > 0 && !set->docker.force_unsupported; /* they are said all the same */
}

/* A container keeps nothing more than another of its version: the first one speaks for all. */
static void add_version(struct found *f, const struct docker_container *c, const struct set_deployment *set)
{
    for (size_t i = 0; i < f->n_versions; i++)
        if (strcmp(f->versions[i].v.id, c->v.id) == 0)
            return;
    struct executor_version *v = &f->versions[f->n_versions++];
    v->v = c->v;
    snprintf(v->image, sizeof v->image, "%s", docker_text(c->spec, "Image"));
    gaps_of(v, c, set);
    v->spec = json_dumps(c->spec, JSON_COMPACT | JSON_SORT_KEYS);
    v->spec_len = v->spec ? strlen(v->spec) : 0;
    if (v->spec_len <= DOCKER_SPEC_MAX)
        return;
    size_t at = v->n_gaps < 8 ? v->n_gaps++ : 7;
    snprintf(v->gap[at], sizeof v->gap[at],
             "its create spec has %zu bytes, %d can be recorded: shorten environment and labels", v->spec_len,
             DOCKER_SPEC_MAX);
    v->v.gaps = true; /* nothing could make it again */
    free(v->spec);
    v->spec = NULL;
    v->spec_len = 0;
}

static void on_view(void *ctx, const struct docker_sight *s)
{
    struct docker_op *op = ctx;
    struct found f = {.instances = calloc(s->n + 1, sizeof *f.instances),
                      .versions = calloc(s->n + 1, sizeof *f.versions)};
    op->look = NULL;
    if (!f.instances || !f.versions)
        abort();
    for (size_t i = 0; i < s->n; i++) {
        f.instances[f.n++] = s->c[i].i;
        add_version(&f, &s->c[i], op->x->set);
    }
    struct executor_view v = {.ok = s->ok,
                              .lasting = s->lasting,
                              .error = s->error,
                              .instances = f.instances,
                              .n = f.n,
                              .versions = f.versions,
                              .n_versions = f.n_versions};
    DL_DELETE(op->x->ops, op);
    op->view_cb(op->ctx, &v);
    for (size_t i = 0; i < f.n_versions; i++)
        free(f.versions[i].spec);
    free(f.versions);
    free(f.instances);
    docker_op_free(op);
}

static void docker_view(struct executor *x, executor_view_cb cb, void *ctx)
{
    struct docker_op *op = new_op(x);
    op->view_cb = cb;
    op->ctx = ctx;
    op->look = docker_look_start(x->api, x->set, &x->cache, on_view, op);
}

/* ---- keep ---- */

static void on_tagged(void *ctx, const struct docker_answer *a)
{
    struct docker_op *op = ctx;
    char words[400];
    docker_no_image(op, words, sizeof words);
    if (a->status == 404)
        docker_op_end(op, false, true, "%s", words);
    else
        docker_op_end(op, a->ok, a->lasting, "%s", a->ok ? "its image has a tag that keeps it" : a->error);
}

static void tag_image(struct docker_op *op)
{
    char tag[160], path[DOCKER_PATH], repo[400], image[400];
    if (!op->image[0]) {
        docker_op_end(op, false, op->image_lasting, "%s", op->image_error);
        return;
    }
    docker_keep_tag(op, tag, sizeof tag);
    snprintf(path, sizeof path, "/images/%s/tag?repo=%s&tag=%s", docker_escape(op->image, image, sizeof image),
             docker_escape(op->x->set->docker.keep_repository, repo, sizeof repo), tag);
    docker_op_call(op, "POST", path, NULL, 0, on_tagged);
}

/* The engine does not take the last name of an image that a container needs: then it stays, and does no harm. */
static void on_released(void *ctx, const struct docker_answer *a)
{
    struct docker_op *op = ctx;
    bool ok = a->ok || a->status == 404 || a->status == 409;
    docker_op_end(op, ok, a->lasting, "%s",
                  a->status == 409 ? "its image is still used by a container: the tag stays"
                  : ok             ? "its image is not kept any more"
                                   : a->error);
}

static void docker_keep(struct executor *x, const struct executor_order *o, bool keep, executor_cb cb, void *ctx)
{
    struct docker_op *op = docker_op_new(x, o, cb, ctx);
    char tag[160], path[DOCKER_PATH];
    if (!op)
        return;
    if (keep) {
        docker_op_image(op, tag_image);
        return;
    }
    docker_keep_tag(op, tag, sizeof tag);
    snprintf(path, sizeof path, "/images/%.200s:%s?noprune=1", x->set->docker.keep_repository, tag);
    docker_op_call(op, "DELETE", path, NULL, 0, on_released);
}

/* ---- life ---- */

/* Whoever names a service and no project means the project that this service is part of: `-p` is not known to the settings. */
static bool own_project(struct executor *x, const struct set_deployment *set)
{
    if (*set->docker.container || *set->docker.project || !*set->docker.service)
        return true;
    char *text = NULL;
    size_t room = 0;
    FILE *f = fopen("/proc/self/mountinfo", "re");
    if (f && getdelim(&text, &room, '\0', f) > 0)
        (void)docker_own_id(text, x->cache.own);
    if (f)
        (void)fclose(f);
    free(text);
    x->own = *set;
    x->own.docker.project = x->cache.project = calloc(1, DOCKER_PROJECT);
    x->set = &x->own;
    return x->cache.project != NULL;
}

static struct executor *docker_open(struct service *s, const struct set_deployment *set, struct err *e)
{
    struct executor *x = calloc(1, sizeof *x);
    if (x)
        x->api = docker_api_open(s->http, set->docker.socket);
    if (!x || !x->api) {
        free(x);
        err_set(e, "deployment %s: memory is out", set->name);
        return NULL;
    }
    x->service = s;
    x->set = set;
    if (!own_project(x, set)) {
        docker_api_close(x->api);
        free(x);
        err_set(e, "deployment %s: memory is out", set->name);
        return NULL;
    }
    return x;
}

static void docker_close(struct executor *x)
{
    if (!x)
        return;
    docker_api_close(x->api);
    while (x->ops) {
        struct docker_op *op = x->ops;
        DL_DELETE(x->ops, op);
        if (op->deferred)
            op->x = NULL; /* the deferred call frees it */
        else
            docker_op_free(op);
    }
    docker_cache_done(&x->cache);
    free(x);
}

const struct executor_kind executor_docker = {.name = "docker",
                                              .gradual = true,
                                              .goes_home = false,
                                              .open = docker_open,
                                              .close = docker_close,
                                              .view = docker_view,
                                              .check = docker_check,
                                              .up = docker_up,
                                              .stop = docker_stop,
                                              .start = docker_start,
                                              .settle = docker_settle,
                                              .remove = docker_remove,
                                              .keep = docker_keep,
                                              .run = docker_run};

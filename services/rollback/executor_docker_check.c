/* executor_docker_check.c - could a version be brought up here? Nothing is changed by asking. */
#include "rollback/executor_docker.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#define ROOM_LEAST ((uint64_t)128 << 20) /* a container's own layer and its log, to begin with */

/* ---- what the spec itself says ---- */

static bool has_gaps(const struct docker_op *op)
{
    char gap[1][256];
    return !op->x->set->docker.force_unsupported && docker_spec_gaps(op->spec, op->x->set->docker.port, gap, 1) > 0;
}

static void refuse_gaps(struct docker_op *op)
{
    char gap[8][256], more[40] = "";
    size_t n = docker_spec_gaps(op->spec, op->x->set->docker.port, gap, 8);
    if (n > 1)
        snprintf(more, sizeof more, " (and %zu more)", n - 1);
    docker_op_end(op, false, true,
                  "version %s cannot be carried over whole: %s%s. docker.leave_out_unsupported starts it without",
                  op->version, gap[0], more);
}

/* ---- networks, volumes ---- */

static void question(struct docker_op *op, const char *kind, const char *name, const char *words)
{
    char path[DOCKER_PATH], escaped[700];
    snprintf(path, sizeof path, "/%s/%s", kind, docker_escape(name, escaped, sizeof escaped));
    json_array_append_new(op->questions, json_pack("{ssss}", "path", path, "words", words));
}

/* The engine makes a volume that is missing, empty: an agent without what it has learnt would come up as if all were well. */
static void question_volume(struct docker_op *op, const char *name)
{
    char words[400];
    snprintf(words, sizeof words,
             "volume %.150s is not there: its data are gone or elsewhere; restore it, or docker volume create it",
             name);
    question(op, "volumes", name, words);
}

static void questions_of_volumes(struct docker_op *op)
{
    const json_t *host = json_object_get(op->spec, "HostConfig"), *v;
    size_t i;
    json_array_foreach(json_object_get(host, "Binds"), i, v)
    {
        char name[256];
        const char *bind = json_string_value(v);
        if (!bind || *bind == '/')
            continue;
        snprintf(name, sizeof name, "%.*s", (int)strcspn(bind, ":"), bind);
        question_volume(op, name);
    }
    json_array_foreach(json_object_get(host, "Mounts"), i, v)
    {
        if (strcmp(docker_text(v, "Type"), "volume") == 0 && *docker_text(v, "Source"))
            question_volume(op, docker_text(v, "Source"));
    }
}

static void questions_of_networks(struct docker_op *op)
{
    const char *name;
    const json_t *v;
    json_object_foreach((json_t *)json_object_get(op->spec, "Networks"), name, v)
    {
        char words[400];
        snprintf(words, sizeof words, "network %.150s is not there: docker network create it, or compose up", name);
        question(op, "networks", name, words);
    }
}

static void next_question(struct docker_op *op);

static void on_question(void *ctx, const struct docker_answer *a)
{
    struct docker_op *op = ctx;
    const json_t *q = json_array_get(op->questions, op->question++);
    if (a->ok)
        next_question(op);
    else if (a->status == 404)
        docker_op_end(op, false, true, "%s", docker_text(q, "words"));
    else
        docker_op_end(op, false, a->lasting, "%s", a->error);
}

static void next_question(struct docker_op *op)
{
    const json_t *q = json_array_get(op->questions, op->question);
    if (q)
        docker_op_call(op, NULL, docker_text(q, "path"), NULL, 0, on_question);
    else
        docker_op_end(op, true, false, "image, networks, volumes, room and names are there");
}

/* ---- what stands ---- */

static const char *name_taken(const struct docker_op *op, const struct docker_sight *s, char name[160])
{
    for (unsigned k = 0; k < op->aim.count; k++) {
        size_t i;
        const json_t *entry;
        docker_instance_name(&op->aim, k, name);
        json_array_foreach(s->list, i, entry)
        {
            const char *job = docker_text(json_object_get(entry, "Labels"), DOCKER_LABEL_JOB);
            if (strcmp(docker_entry_name(entry), name) == 0 && strcmp(job, op->job) != 0)
                return name;
        }
    }
    return NULL;
}

static void on_look(void *ctx, const struct docker_sight *s)
{
    struct docker_op *op = ctx;
    char name[160];
    op->look = NULL;
    if (!s->ok) {
        docker_op_end(op, false, s->lasting, "%s", s->error);
        return;
    }
    for (size_t i = 0; i < s->n; i++)
        if (s->c[i].removes_itself && s->c[i].i.running && !op->x->set->docker.force_unsupported) {
            docker_op_end(op, false, true,
                          "%s was started with --rm: once it is stopped there is no way back to it; start it without",
                          s->c[i].i.name);
            return;
        }
    if (name_taken(op, s, name)) {
        docker_op_end(op, false, true,
                      "the name %s is taken by a container that no rollback has made: docker rename it", name);
        return;
    }
    op->questions = json_array();
    questions_of_networks(op);
    questions_of_volumes(op);
    next_question(op);
}

/* ---- the engine ---- */

bool docker_room(const char *root, uint64_t least_bytes, char *why, size_t size)
{
    struct statvfs fs;
    if (!*root || statvfs(root, &fs))
        return true; /* the engine's directory is not seen from here: no claim */
    uint64_t room = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (room >= least_bytes && (fs.f_files == 0 || fs.f_favail > 0))
        return true;
    snprintf(
        why, size,
        "no room where the Docker Engine keeps its containers (%.150s): %llu MiB and %llu files are free, %llu MiB "
        "are needed; see docker system df",
        root, (unsigned long long)(room >> 20), (unsigned long long)fs.f_favail,
        (unsigned long long)(least_bytes >> 20));
    return false;
}

/* The same machine has two names. */
static const char *machine(const char *name)
{
    static const char *const same[][2] = {
        {"x86_64", "amd64"}, {"aarch64", "arm64"}, {"armv7l", "arm"}, {"i686", "386"}};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        if (strcmp(name, same[i][0]) == 0)
            return same[i][1];
    return name;
}

static void on_info(void *ctx, const struct docker_answer *a)
{
    struct docker_op *op = ctx;
    char why[400];
    if (!a->ok) {
        docker_op_end(op, false, a->lasting, "%s", a->error);
        return;
    }
    const char *os = docker_text(op->image_is, "Os"), *arch = docker_text(op->image_is, "Architecture");
    const char *engine_os = docker_text(a->json, "OSType"),
               *engine_arch = machine(docker_text(a->json, "Architecture"));
    if ((*os && strcmp(os, engine_os) != 0) || (*arch && strcmp(arch, engine_arch) != 0)) {
        docker_op_end(op, false, true,
                      "the image of version %s is for %s/%s, and this engine runs %s/%s: build it for that",
                      op->version, os, arch, engine_os, engine_arch);
        return;
    }
    if (!docker_room(docker_text(a->json, "DockerRootDir"), ROOM_LEAST, why, sizeof why)) {
        docker_op_end(op, false, false, "%s", why);
        return;
    }
    op->look = docker_look_start(op->x->api, op->x->set, &op->x->cache, on_look, op);
}

static void image_known(struct docker_op *op)
{
    if (op->image[0])
        docker_op_call(op, NULL, "/info", NULL, 0, on_info);
    else
        docker_op_end(op, false, op->image_lasting, "%s", op->image_error);
}

static void refuse_later(void *ctx)
{
    struct docker_op *op = ctx;
    if (!op->x) {
        docker_op_free(op);
        return;
    }
    if (!op->spec)
        docker_op_end(op, false, true,
                      "how version %s is made was never recorded: deploy it once, so that it is seen", op->version);
    else
        refuse_gaps(op);
}

void docker_check(struct executor *x, const struct executor_order *o, executor_cb cb, void *ctx)
{
    struct docker_op *op = docker_op_new(x, o, cb, ctx);
    if (!op)
        return;
    if (!op->spec || has_gaps(op)) {
        op->deferred = true; /* an answer never comes from inside */
        loop_defer(&x->service->loop, refuse_later, op);
        return;
    }
    docker_op_image(op, image_known);
}

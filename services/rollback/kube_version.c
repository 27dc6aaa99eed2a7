/* kube_version.c - which version a Deployment's template is, and everything that is needed to make it again. Pure.
 *
 * A template that we have set carries the version's id in an annotation of its Deployment, which counts as long as template and ConfigMaps are
 * what they were: an image that nobody has pulled yet has no digest, and a version must not change its name by that. */
#include "rollback/kube_look.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((format(printf, 2, 3))) static void gap(struct executor_version *v, const char *fmt, ...)
{
    va_list ap;
    v->v.gaps = true;
    if (v->n_gaps == sizeof v->gap / sizeof *v->gap)
        return;
    va_start(ap, fmt);
    vsnprintf(v->gap[v->n_gaps++], sizeof *v->gap, fmt, ap);
    va_end(ap);
}

bool kube_side_ours(const struct kube_side *s)
{
    return *kube_text(s->state, "job");
}

bool kube_side_current(const struct kube_side *s, const json_t *pod)
{
    const json_t *want = kube_at(s->deployment, "spec.template"), *a = kube_at(want, "spec.containers");
    const char *marked = kube_annotation(pod, KUBE_STATE);
    if (kube_side_ours(s))
        return strcmp(marked, kube_text(s->state, "id")) == 0;
    for (size_t i = 0; i < json_array_size(a); i++) {
        const json_t *c = json_array_get(a, i);
        const json_t *has = kube_container(pod, kube_text(c, "name"));
        if (!has || strcmp(kube_text(has, "image"), kube_text(c, "image")) != 0)
            return false;
    }
    return true;
}

/* ---- ConfigMaps ---- */

/* Length of the name without the mark of a copy: the template in its normal form has it so. */
static const json_t *object_of(const struct kube_look *l, const json_t *raw_names, const char *original)
{
    json_t *value;
    const char *name;
    char copy[254], hash[65];
    /* The original is referred to as it is, or by a copy whose name says its contents. */
    if (json_object_get(raw_names, original))
        return json_object_get(l->configmaps, original);
    json_object_foreach((json_t *)(uintptr_t)raw_names, name, value)
    {
        const json_t *object = json_object_get(l->configmaps, name);
        if (!json_is_object(object))
            continue;
        json_t *data = kube_configmap_data(object);
        kube_copy_name(original, executor_config_hash(data, hash), copy, sizeof copy);
        json_decref(data);
        if (strcmp(copy, name) == 0)
            return object;
    }
    return NULL;
}

/* Contents by the originals' names, and their hashes; what is not there is said. */
static json_t *contents(struct kube_side *s, const struct kube_look *l)
{
    json_t *raw, *raw_secrets, *names, *secrets, *all = json_object(), *optional;
    const char *name;
    char hash[65];
    kube_refs(kube_at(s->deployment, "spec.template"), &raw, &raw_secrets);
    kube_refs(s->template, &names, &secrets);
    json_object_foreach(names, name, optional)
    {
        const json_t *object = object_of(l, raw, name);
        if (!json_is_object(object)) {
            if (!json_is_true(optional))
                gap(&s->version, "ConfigMap %.100s is not there or must not be read: give the right to get it", name);
            continue;
        }
        json_t *data = kube_configmap_data(object);
        json_object_set_new(s->hashes, name, json_string(executor_config_hash(data, hash)));
        json_object_set_new(data, "hash", json_string(hash));
        json_object_set_new(all, name, data);
    }
    json_decref(raw);
    json_decref(raw_secrets);
    json_decref(names);
    json_decref(secrets);
    return all;
}

/* ---- images ---- */

static bool never_comes(const char *reason)
{
    return strcmp(reason, "ImagePullBackOff") == 0 || strcmp(reason, "ErrImagePull") == 0 ||
           strcmp(reason, "InvalidImageName") == 0 || strcmp(reason, "ErrImageNeverPull") == 0;
}

static const json_t *status_of(const json_t *pod, const char *container)
{
    const json_t *all = kube_at(pod, "status.containerStatuses");
    for (size_t i = 0; i < json_array_size(all); i++)
        if (strcmp(kube_text(json_array_get(all, i), "name"), container) == 0)
            return json_array_get(all, i);
    return NULL;
}

/* What the image is for ever. A tag may come to mean another image: the digest is what counts, and a running pod says it. "" = nobody can say
 * yet. pull: how it is pulled again, "" if only by the tag. */
static void find_digest(struct kube_side *s, const json_t *container, char *digest, size_t size, char *pull,
                        size_t pull_size)
{
    const char *image = kube_text(container, "image");
    bool hopeless = !s->pods;
    char repository[512], found[129];
    kube_image_digest(image, digest, size);
    snprintf(pull, pull_size, "%s", *digest ? image : "");
    kube_image_repository(image, repository, sizeof repository);
    for (size_t i = 0; i < json_array_size(s->pods) && !strchr(image, '@'); i++) {
        const json_t *pod = json_array_get(s->pods, i);
        const json_t *status = status_of(pod, kube_text(container, "name"));
        const char *id = kube_text(status, "imageID");
        if (!kube_side_current(s, pod))
            continue;
        kube_image_digest(id, found, sizeof found);
        hopeless = hopeless || never_comes(kube_text(status, "state.waiting.reason"));
        if (!*found)
            continue;
        if (!*digest) {
            snprintf(digest, size, "%s", found);
            if (strchr(id, '@'))
                snprintf(pull, pull_size, "%s@%s", repository, found);
        } else if (strcmp(digest, found) != 0) {
            gap(&s->version, "the tag of %.150s means different images on different pods: use a digest", image);
            break;
        }
    }
    if (!*digest && hopeless)
        snprintf(digest, size, "%.128s", image);
}

/* ---- the record ---- */

static void set_name(struct executor_version *v, const json_t *template)
{
    const char *label = kube_label(template, "app.kubernetes.io/version");
    char tag[129];
    kube_image_tag(v->image, tag, sizeof tag);
    snprintf(v->v.name, sizeof v->v.name, "%.128s", *label ? label : *tag ? tag : v->v.digest);
    if (!*label && !*tag && strncmp(v->v.digest, "sha256:", 7) == 0)
        snprintf(v->v.name, sizeof v->v.name, "%.12s", v->v.digest + 7);
}

/* The largest contents are left out until it fits. */
static void write_spec(struct executor_version *v, json_t *spec)
{
    for (;;) {
        char *text = json_dumps(spec, JSON_COMPACT | JSON_SORT_KEYS);
        size_t len = text ? strlen(text) : 0, most = 0;
        const char *name, *largest = NULL;
        json_t *value, *all = json_object_get(spec, "configmaps");
        if (text && len <= KUBE_SPEC_MAX) {
            v->spec = text;
            v->spec_len = len;
            return;
        }
        free(text);
        json_object_foreach(all, name, value)
        {
            size_t n = json_dumpb(value, NULL, 0, JSON_COMPACT);
            if (n > most && json_object_size(value) > 1) {
                most = n;
                largest = name;
            }
        }
        if (!largest) {
            gap(v, "the pod template is larger than %d bytes", KUBE_SPEC_MAX);
            return;
        }
        gap(v, "ConfigMap %.100s: %zu bytes are too many to be kept with the version", largest, most);
        value = json_object_get(all, largest);
        json_object_del(value, "data");
        json_object_del(value, "binaryData");
    }
}

static json_t *secret_marks(const struct kube_side *s, const struct kube_look *l)
{
    json_t *configmaps, *secrets, *marks = json_object(), *value;
    const char *name;
    kube_refs(s->template, &configmaps, &secrets);
    json_object_foreach(secrets, name, value) json_object_set(marks, name, json_object_get(l->secrets, name));
    json_decref(configmaps);
    json_decref(secrets);
    return marks;
}

static int64_t schema_of(const json_t *template)
{
    const char *text = kube_annotation(template, "io.redoubt.data-schema");
    if (!*text)
        text = kube_label(template, "io.redoubt.data-schema");
    char *end;
    long long n = strtoll(text, &end, 10);
    return *text && !*end && n > 0 ? n : 0;
}

/* The annotation, if it is of what stands now. */
static json_t *true_state(const struct kube_side *s)
{
    json_t *state = json_loads(kube_annotation(s->deployment, KUBE_STATE), 0, NULL);
    if (json_is_object(state) && strcmp(kube_text(state, "hash"), s->hash) == 0 &&
        strlen(kube_text(state, "id")) == ROLLBACK_ID - 1)
        return state;
    json_decref(state);
    return NULL;
}

void kube_side_read(struct kube_side *s, const struct set_rb_kubernetes *set, const struct kube_look *l)
{
    struct executor_version *v = &s->version;
    char pull[512] = "", config_hash[65];
    *v = (struct executor_version){0};
    s->template = kube_template(s->deployment);
    s->hashes = json_object();
    if (!s->template)
        return;
    const json_t *container = kube_container(s->template, set->container);
    json_t *configmaps = contents(s, l), *hashed = kube_hashed(s->template, set->container, s->hashes);
    executor_config_hash(hashed, config_hash);
    json_decref(hashed);
    snprintf(s->hash, sizeof s->hash, "%s", config_hash);
    s->state = true_state(s);
    snprintf(v->image, sizeof v->image, "%.511s", kube_text(container, "image"));
    v->v.data_schema = schema_of(s->template);
    if (s->state) {
        snprintf(v->v.id, sizeof v->v.id, "%s", kube_text(s->state, "id"));
        snprintf(v->v.name, sizeof v->v.name, "%.128s", kube_text(s->state, "name"));
        snprintf(v->v.digest, sizeof v->v.digest, "%.128s", kube_text(s->state, "digest"));
        snprintf(v->v.config_hash, sizeof v->v.config_hash, "%.64s", kube_text(s->state, "config"));
        snprintf(pull, sizeof pull, "%.511s", kube_text(s->state, "pull"));
    } else if (container) {
        find_digest(s, container, v->v.digest, sizeof v->v.digest, pull, sizeof pull);
        snprintf(v->v.config_hash, sizeof v->v.config_hash, "%s", config_hash);
        if (*v->v.digest)
            executor_version_id(v->v.digest, v->v.config_hash, v->v.id);
        set_name(v, s->template);
    }
    json_t *spec = json_pack("{s:O,s:o,s:o,s:s,s:s,s:s,s:I}", "template", s->template, "configmaps", configmaps,
                             "secrets", secret_marks(s, l), "pull", pull, "config", v->v.config_hash, "revision",
                             kube_annotation(s->deployment, "deployment.kubernetes.io/revision"), "replicas",
                             (json_int_t)kube_int(s->deployment, "spec.replicas", 1));
    write_spec(v, spec);
    json_decref(spec);
}

void kube_side_free(struct kube_side *s)
{
    json_decref(s->deployment);
    json_decref(s->template);
    json_decref(s->pods);
    json_decref(s->hashes);
    json_decref(s->state);
    free(s->version.spec);
    *s = (struct kube_side){0};
}

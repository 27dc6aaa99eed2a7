/* kube_template.c - pod templates: recorded without what belongs to one Deployment, and made for another. */
#include "rollback/kube_deployment.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COPY_MARK "-rb-"
#define COPY_HEX  10

/* ---- references ---- */

typedef void (*ref_cb)(void *ctx, json_t *holder, const char *key, bool secret, bool optional);

static void ref(json_t *holder, const char *key, bool secret, ref_cb cb, void *ctx)
{
    if (json_is_string(json_object_get(holder, key)))
        cb(ctx, holder, key, secret, json_is_true(json_object_get(holder, "optional")));
}

static void volume_refs(json_t *volume, ref_cb cb, void *ctx)
{
    json_t *sources = kube_at(volume, "projected.sources");
    ref(json_object_get(volume, "configMap"), "name", false, cb, ctx);
    ref(json_object_get(volume, "secret"), "secretName", true, cb, ctx);
    for (size_t i = 0; i < json_array_size(sources); i++) {
        ref(json_object_get(json_array_get(sources, i), "configMap"), "name", false, cb, ctx);
        ref(json_object_get(json_array_get(sources, i), "secret"), "name", true, cb, ctx);
    }
}

static void container_refs(json_t *container, ref_cb cb, void *ctx)
{
    json_t *from = json_object_get(container, "envFrom"), *env = json_object_get(container, "env");
    for (size_t i = 0; i < json_array_size(from); i++) {
        ref(json_object_get(json_array_get(from, i), "configMapRef"), "name", false, cb, ctx);
        ref(json_object_get(json_array_get(from, i), "secretRef"), "name", true, cb, ctx);
    }
    for (size_t i = 0; i < json_array_size(env); i++) {
        ref(kube_at(json_array_get(env, i), "valueFrom.configMapKeyRef"), "name", false, cb, ctx);
        ref(kube_at(json_array_get(env, i), "valueFrom.secretKeyRef"), "name", true, cb, ctx);
    }
}

static void each_ref(const json_t *template, ref_cb cb, void *ctx)
{
    static const char *const lists[] = {"spec.initContainers", "spec.containers", "spec.ephemeralContainers"};
    json_t *a = kube_at(template, "spec.volumes");
    for (size_t i = 0; i < json_array_size(a); i++)
        volume_refs(json_array_get(a, i), cb, ctx);
    for (size_t k = 0; k < sizeof lists / sizeof *lists; k++) {
        a = kube_at(template, lists[k]);
        for (size_t i = 0; i < json_array_size(a); i++)
            container_refs(json_array_get(a, i), cb, ctx);
    }
    a = kube_at(template, "spec.imagePullSecrets");
    for (size_t i = 0; i < json_array_size(a); i++)
        ref(json_array_get(a, i), "name", true, cb, ctx);
}

static void collect(void *ctx, json_t *holder, const char *key, bool secret, bool optional)
{
    json_t **sets = ctx, *set = sets[secret];
    const char *name = kube_text(holder, key);
    const json_t *was = json_object_get(set, name);
    if (*name)
        json_object_set_new(set, name, json_boolean(optional && (!was || json_is_true(was))));
}

void kube_refs(const json_t *template, json_t **ret_configmaps, json_t **ret_secrets)
{
    json_t *sets[2] = {json_object(), json_object()};
    each_ref(template, collect, sets);
    *ret_configmaps = sets[0];
    *ret_secrets = sets[1];
}

void kube_copy_name(const char *name, const char *hash, char *buf, size_t size)
{
    /* Names have 253 bytes at most. */
    snprintf(buf, size, "%.*s%s%.*s", 253 - (int)strlen(COPY_MARK) - COPY_HEX, name, COPY_MARK, COPY_HEX, hash);
}

/* Length of the original's name, or 0 if it is no copy's name. */
static size_t original_len(const char *name)
{
    size_t n = strlen(name), tail = strlen(COPY_MARK) + COPY_HEX;
    if (n <= tail || strncmp(name + n - tail, COPY_MARK, strlen(COPY_MARK)) != 0 ||
        strspn(name + n - COPY_HEX, "0123456789abcdef") != COPY_HEX)
        return 0;
    return n - tail;
}

static void to_original(void *ctx, json_t *holder, const char *key, bool secret, bool optional)
{
    const char *name = kube_text(holder, key);
    size_t n = original_len(name);
    (void)ctx;
    (void)optional;
    if (!secret && n > 0)
        json_object_set_new(holder, key, json_stringn(name, n));
}

static void to_copy(void *ctx, json_t *holder, const char *key, bool secret, bool optional)
{
    json_t *copy = json_object_get(ctx, kube_text(holder, key));
    (void)optional;
    if (!secret && json_is_string(copy))
        json_object_set(holder, key, copy);
}

/* ---- templates ---- */

static void drop_ours(json_t *map)
{
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(map, next, key, value)
    {
        if (strncmp(key, KUBE_OURS, strlen(KUBE_OURS)) == 0 && strcmp(key, "io.redoubt.data-schema") != 0)
            json_object_del(map, key);
    }
}

static void drop_empty(json_t *o, const char *key)
{
    const json_t *map = json_object_get(o, key);
    if (json_is_null(map) || (json_is_object(map) && json_object_size(map) == 0))
        json_object_del(o, key);
}

json_t *kube_template(const json_t *deployment)
{
    json_t *t = json_deep_copy(kube_at(deployment, "spec.template"));
    if (!json_is_object(t)) {
        json_decref(t);
        return NULL;
    }
    json_t *meta = json_object_get(t, "metadata"), *labels = json_object_get(meta, "labels"), *value;
    const char *key;
    json_object_foreach(kube_at(deployment, "spec.selector.matchLabels"), key, value) json_object_del(labels, key);
    drop_ours(labels);
    drop_ours(json_object_get(meta, "annotations"));
    json_object_del(json_object_get(meta, "annotations"),
                    "kubectl.kubernetes.io/restartedAt"); /* a restart changes nothing */
    json_object_del(meta, "creationTimestamp");
    drop_empty(meta, "labels");
    drop_empty(meta, "annotations");
    drop_empty(t, "metadata");
    each_ref(t, to_original, NULL);
    return t;
}

/* An object below o, made if it is not there. */
static json_t *below(json_t *o, const char *key)
{
    json_t *in = json_object_get(o, key);
    if (!json_is_object(in)) {
        json_object_set_new(o, key, json_object());
        in = json_object_get(o, key);
    }
    return in;
}

json_t *kube_template_for(const json_t *recorded, const json_t *deployment, const char *container, const char *image,
                          const json_t *copies)
{
    json_t *t = json_deep_copy(recorded), *labels = below(below(t, "metadata"), "labels");
    const json_t *own = kube_at(deployment, "spec.template.metadata.labels");
    const char *key;
    json_t *value;
    /* Its selector can never change: what it selects by stays its own, and so does whether new pods get traffic. */
    json_object_foreach(kube_at(deployment, "spec.selector.matchLabels"), key, value)
        json_object_set(labels, key, value);
    if (json_object_get(own, KUBE_TRAFFIC_LABEL))
        json_object_set(labels, KUBE_TRAFFIC_LABEL, json_object_get(own, KUBE_TRAFFIC_LABEL));
    if (*image && kube_container(t, container))
        json_object_set_new(kube_container(t, container), "image", json_string(image));
    each_ref(t, to_copy, (void *)(uintptr_t)copies);
    return t;
}

json_t *kube_hashed(const json_t *template, const char *container, const json_t *hashes)
{
    json_t *t = json_deep_copy(template), *c = kube_container(t, container);
    char repository[512];
    if (c) {
        kube_image_repository(kube_text(c, "image"), repository, sizeof repository);
        json_object_set_new(c, "image", json_string(repository));
    }
    return json_pack("{s:o,s:O}", "template", t, "configmaps", hashes);
}

json_t *kube_configmap_data(const json_t *configmap)
{
    json_t *data = json_object_get(configmap, "data"), *binary = json_object_get(configmap, "binaryData");
    json_t *o = json_object();
    if (json_object_size(data))
        json_object_set(o, "data", data);
    if (json_object_size(binary))
        json_object_set(o, "binaryData", binary);
    return o;
}

/* ---- patches ---- */

static void op(json_t *patch, const char *what, const char *path, json_t *value)
{
    json_array_append_new(patch, json_pack("{s:s,s:s,s:o}", "op", what, "path", path, "value", value));
}

static json_t *merged(const json_t *deployment, const json_t *annotations)
{
    const json_t *now = kube_at(deployment, "metadata.annotations");
    json_t *all = json_is_object(now) ? json_deep_copy(now) : json_object(), *value;
    const char *key;
    json_object_foreach((json_t *)(uintptr_t)annotations, key, value)
    {
        if (json_is_null(value))
            json_object_del(all, key);
        else
            json_object_set(all, key, value);
    }
    return all;
}

json_t *kube_deployment_patch(const json_t *deployment, const json_t *template, int64_t replicas,
                              const json_t *annotations)
{
    json_t *patch = json_array();
    /* Not its own version any more: 409, whoever it was. */
    op(patch, "replace", "/metadata/resourceVersion", json_string(kube_text(deployment, "metadata.resourceVersion")));
    if (annotations)
        op(patch, "add", "/metadata/annotations", merged(deployment, annotations));
    if (template)
        op(patch, "replace", "/spec/template", json_deep_copy(template));
    if (replicas >= 0)
        op(patch, "add", "/spec/replicas", json_integer(replicas));
    return patch;
}

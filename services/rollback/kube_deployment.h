/* kube_deployment.h - what a Deployment says, and how it is made to say something else. Pure: JSON in, JSON out. */
#ifndef REDOUBT_ROLLBACK_KUBE_DEPLOYMENT_H
#define REDOUBT_ROLLBACK_KUBE_DEPLOYMENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- reading (kube_deployment.c) ---- */

/* "spec.template.metadata": NULL if there is no such thing. Keys with dots in them cannot be reached by it. */
json_t *kube_at(const json_t *o, const char *path);
const char *kube_text(const json_t *o, const char *path); /* "" if there is none */
int64_t kube_int(const json_t *o, const char *path, int64_t otherwise);
const char *kube_annotation(const json_t *o, const char *key); /* "" if there is none */
const char *kube_label(const json_t *o, const char *key);
/* "Progressing", "Available", ...; NULL if it is not said. */
const json_t *kube_condition(const json_t *status, const char *type);

enum kube_rollout { KUBE_ROLLING, KUBE_ROLLED, KUBE_STUCK };
/* As `kubectl rollout status` sees it. A deadline that was exceeded before the patch says nothing of it: stale is kube_stale() of the object
 * before. why: what is waited for, or what is wrong. */
enum kube_rollout kube_rollout(const json_t *deployment, const char *stale, char *why, size_t size);
/* When the deadline was exceeded, as it stands now; "" if it was not. */
const char *kube_stale(const json_t *deployment);

/* Selector of its pods, "a=b,c in (d,e)"; false if it does not fit or there is none. */
bool kube_selector(const json_t *deployment, char *buf, size_t size);
/* Is this pod made by this Deployment (by way of one of its ReplicaSets)? */
bool kube_owns(const json_t *deployment, const json_t *pod);
/* The container that is meant: by name, or the first. NULL if there is none. */
json_t *kube_container(const json_t *template, const char *name);
/* Name and digest of an image reference. */
void kube_image_repository(const char *image, char *buf, size_t size);
void kube_image_tag(const char *image, char *buf, size_t size); /* "" if there is none */
/* "sha256:..." of a reference or an imageID; "" if there is none. */
void kube_image_digest(const char *image, char *buf, size_t size);
bool kube_pod_ready(const json_t *pod, char *why, size_t size);

/* ---- templates (kube_template.c) ---- */

#define KUBE_TRAFFIC_LABEL "io.redoubt.traffic" /* "on": the Service sends work to this pod */
#define KUBE_OURS          "io.redoubt."

/* The pod template without what belongs to this one Deployment (its selector's labels), to us, or to the moment; references to copies of
 * ConfigMaps name the originals. A new object, or NULL if there is no template. */
json_t *kube_template(const json_t *deployment);
/* The other way round: a recorded template as this Deployment can have it. copies: {"name": "name of its copy"}. image: "" = as recorded. */
json_t *kube_template_for(const json_t *recorded, const json_t *deployment, const char *container, const char *image,
                          const json_t *copies);
/* Every ConfigMap and Secret that the template refers to, each name once: {"name": true if every reference is optional}. */
void kube_refs(const json_t *template, json_t **ret_configmaps, json_t **ret_secrets);
/* "app-config-rb-0123456789" */
void kube_copy_name(const char *name, const char *hash, char *buf, size_t size);
/* What is hashed of a configuration: the template with only the repository of `container`'s image, and the ConfigMaps' hashes. */
json_t *kube_hashed(const json_t *template, const char *container, const json_t *hashes);
/* The part of a ConfigMap that counts. */
json_t *kube_configmap_data(const json_t *configmap);

/* A JSON patch that changes the Deployment as it was read, and fails if somebody else was faster. template NULL, replicas < 0 and annotations
 * NULL = left alone; in annotations ("key": "text") a null takes the key away. */
json_t *kube_deployment_patch(const json_t *deployment, const json_t *template, int64_t replicas,
                              const json_t *annotations);

/* ---- jobs (kube_job.c) ---- */

#define KUBE_OWNER "io.redoubt.deployment" /* label of what we make: whose it is */
#define KUBE_JOB   "io.redoubt.job" /* annotation of a Job: whose command it runs; a label, too, if it can be one */

struct kube_job_order {
    const char *name;      /* of the Job */
    const char *owner;     /* the deployment */
    const char *job;       /* id of the rollback */
    const char *container; /* whose image, environment and mounts; "" = the first */
    const char *const *argv;
    int64_t deadline_s;
};
/* "NAME-rb-0123456789"; buf of 64. */
void kube_job_name(const char *deployment, const char *job, char *buf);
/* A Job that runs argv once in this template, as kube_template_for() has made it. Its pod has no label but ours: no Service sends it work. */
json_t *kube_job(const json_t *template, const json_t *deployment, const struct kube_job_order *o);
bool kube_job_is(const json_t *object, const char *owner, const char *job);
enum kube_job_state { KUBE_JOB_RUNS, KUBE_JOB_DONE, KUBE_JOB_FAILED };
enum kube_job_state kube_job_state(const json_t *object, char *why, size_t size);
/* Would this Deployment take a pod with these labels for its own? */
bool kube_selects(const json_t *deployment, const json_t *labels);
/* The end of a log as one line. */
const char *kube_log_end(const char *text, size_t len, char *buf, size_t size);

#endif

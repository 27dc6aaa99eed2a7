/* kube_config.h - whom a client of Kubernetes calls and as whom: settings, a kubeconfig, or the pod's ServiceAccount.
 *
 * What would run a program, ask a person or trust anybody (exec and auth-provider plugins, passwords, insecure-skip-tls-verify) is refused with words. */
#ifndef REDOUBT_ROLLBACK_KUBE_CONFIG_H
#define REDOUBT_ROLLBACK_KUBE_CONFIG_H

#include "common/err.h"
#include "common/settings.h"
#include <jansson.h>

struct kube_access {
    char server[512]; /* https://host:port, no slash at its end */
    char namespace[64];
    char *token;                          /* NULL = none; a secret */
    char *token_file;                     /* NULL = none; wins over token, and is read before each call */
    char *ca_file, *cert_file, *key_file; /* NULL = none; may name memory of this process */
    int memory[3];                        /* descriptors of such; -1 = none */
};
/* 0, or -1 with the text in e and *ret untouched. pod_dir is where a pod finds its ServiceAccount; NULL = the usual place. */
int kube_access_load(struct kube_access *ret, const struct set_rb_kubernetes *set, const char *pod_dir,
                     struct err *e);
void kube_access_free(struct kube_access *a); /* zeroes it; half-built is fine */
/* The token as it is now: malloc'ed, a secret; "" if there is none. NULL with the text in e. */
char *kube_access_token(const struct kube_access *a, struct err *e);
/* A YAML (or JSON) text as JSON; scalars are strings. NULL with the text in e. */
json_t *kube_yaml(const char *text, size_t len, struct err *e);

#endif

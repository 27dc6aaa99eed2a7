/* rollback_check.h - makes the checks of a deployment once, all at a time, and hands over what they said. */
#ifndef REDOUBT_ROLLBACK_CHECK_H
#define REDOUBT_ROLLBACK_CHECK_H

#include "common/service.h"
#include "rollback/rollback_executor.h"
#include "rollback/rollback_judge.h"

/* Whom is asked: [0] the former version, [1] the one that is gone back to. */
struct check_side {
    bool there;
    const char *version, *name, *digest;
    int side;
    const char *const *addresses; /* of its ready instances */
    size_t n;
};
/* samples are valid only inside the callback; a check that could not be asked has a sample without data. */
typedef void (*checks_cb)(void *ctx, const struct rollback_sample *samples, size_t n);

struct checks;
/* NULL with the reason in e. `set` stays valid until close. */
struct checks *checks_open(struct service *s, const struct set_deployment *set, struct err *e);
void checks_close(struct checks *c); /* cancels: callbacks do not come any more */
/* The rule for the judge, as long as c lives. */
const struct rollback_judge_rule *checks_rule(const struct checks *c);
void checks_run(struct checks *c, const struct check_side sides[2], bool suite, checks_cb cb, void *ctx);

#endif

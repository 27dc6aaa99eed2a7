/* matcher.h - which alerts are meant: `agent=mcp`, `label.team!=web`, `target=~llm\..*`, `severity>=high`. Pure but for its memory.
 *
 * FIELD is severity, source, agent, target, failure_kind, dedup_key or label.<key>; a field that an alert lacks is "". OP is =, !=, =~, !~;
 * patterns are PCRE2 and fit the whole value. severity and failure_kind are compared without regard to case; severity has >= and <= as well. */
#ifndef REDOUBT_MATCHER_H
#define REDOUBT_MATCHER_H

#include "common/conf.h"
#include "common/err.h"
#include "common/wire.h"
#include <stdbool.h>

struct matchers;
/* n texts, all of which must fit; n = 0 fits everything. NULL with the place in e if one is wrong or memory is out. */
struct matchers *matchers_new(const char *const *texts, size_t n, struct err *e);
void matchers_free(struct matchers *m); /* NULL is fine */
/* A pattern that would cost too much to match (see match.h) fits: rather told once too often. */
bool matchers_fit(const struct matchers *m, const PB(Alert) * a);
/* The value of a field as matchers see it; "" if the alert lacks it. Valid as long as the alert. NULL: there is no such field. */
const char *matcher_field(const PB(Alert) * a, const char *field);
bool matcher_field_ok(const char *field); /* is it a field? */

#endif

/* wire_report.h - a quick reader for the one message that comes by the million: reports of calls.
 *
 * It takes only what wire_unpack() takes too, with the same values, and leaves all that is out of the ordinary (fields that it does not know,
 * fields given twice, every mistake) to it: who is told 0 asks wire_unpack(), which has the last word and the words for it. It
 * allocates nothing. tests/fuzz/fuzz_report.c holds the two against each other. */
#ifndef REDOUBT_WIRE_REPORT_H
#define REDOUBT_WIRE_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_REPORTS_MAX 1000 /* of a batch, by the contract */

struct wire_report {
    uint64_t permit_id;
    int64_t ended_unix_ms;
    uint32_t status_code, total_ms, first_token_ms, retry_after_ms;
    uint8_t outcome;
    bool probe, data_path;
};
/* Reports of one reporter about one target. */
struct wire_reports {
    const char *reporter; /* inside the message; no NUL after it */
    size_t reporter_len;
    size_t n;
    struct wire_report at[WIRE_REPORTS_MAX];
};
/* Reads an OutcomeReport, or with `batch` an OutcomeBatch, whose reports are all of `target` and of one reporter. Returns how many; 0 =
 * not for this reader: *ret is undefined then. `target` must be a valid name. */
size_t wire_reports_read(const void *data, size_t len, bool batch, const char *target, size_t target_len,
                         struct wire_reports *ret);

#endif

/* fuzz_health_dns.c - DNS answers from anybody: records that are text, or a malformed message. */
#include "common/settings.h"
#include "health/health_dns.h"
#include "random.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>

static uint64_t tried, read_well, records;

static void on_record(void *ctx, const char *text, size_t len)
{
    (void)ctx;
    records++;
    assert(len < HEALTH_DNS_TEXT_MAX && text[len] == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tried++;
    for (int record = SET_DNS_A; record <= SET_DNS_TXT; record++) {
        uint64_t before = records;
        int n = health_dns_read(data, size, health_dns_type(record), on_record, NULL);
        assert(n >= -1 && (n < 0 || records - before == (uint64_t)n));
        read_well += n > 0;
    }
    return 0;
}

static size_t put(uint8_t *buf, size_t n, const void *data, size_t len)
{
    memcpy(buf + n, data, len);
    return n + len;
}

static size_t fuzz_make(struct fuzz_random *r, uint8_t *buf, size_t room)
{
    static const struct {
        uint8_t type, len;
        const char *data;
    } kinds[] = {
        {1, 4, "\1\2\3\4"},
        {28, 16, "0123456789abcdef"},
        {5, 4, "\1b\xc0\x0c"},
        {2, 3, "\1n\0"},
        {15, 5, "\0\1\1m\0"},
        {33, 9, "\0\1\0\2\0\3\1s\0"},
        {16, 6, "\2ab\2cd"},
        {5, 2, "\xc0\x1d"},
        {16, 3,
         "\xff"
         "ab"},
        {41, 0, ""},
        {2, 2, "\xc0\xff"},
    };
    (void)room;
    size_t answers = fuzz_below(r, 6), n;
    uint8_t head[12] = {1, 2, 0x81, 0x80, 0, 1, 0, (uint8_t)(fuzz_below(r, 8) ? answers : fuzz_below(r, 256))};
    n = put(buf, 0, head, sizeof head);
    n = put(buf, n, "\1a\4test\0\0\1\0\1", 12);
    for (; answers > 0; answers--) {
        size_t k = fuzz_below(r, sizeof kinds / sizeof kinds[0]);
        uint8_t record[12] = {0xc0, 12, 0, kinds[k].type, 0, 1, 0, 0, 0, 1, 0, kinds[k].len};
        n = put(buf, n, record, sizeof record);
        n = put(buf, n, kinds[k].data, kinds[k].len);
    }
    return fuzz_below(r, 2) ? fuzz_mutate(r, buf, n, 1024) : n;
}

static void fuzz_report(void)
{
    printf("%llu messages, %llu with records of a kind, %llu records\n", (unsigned long long)tried,
           (unsigned long long)read_well, (unsigned long long)records);
    assert(tried < 1000 || read_well > tried / 10);
}

#include "driver.h"

/* The latencies of stamped events. All are stored, so the percentiles are exact. */

#ifndef LATENCY_H
#define LATENCY_H

#include <stdint.h>
#include <stdlib.h>

static struct {
    float *microseconds;
    size_t count, capacity;
    uint64_t arrived; /* when the bytes that are being parsed were received, in nanoseconds */
} latencies;

static inline void latency_take(uint64_t stamp)
{
    if (latencies.count == latencies.capacity) {
        latencies.capacity = latencies.capacity ? 2 * latencies.capacity : 1 << 16;
        latencies.microseconds = realloc(latencies.microseconds, latencies.capacity * sizeof(float));
        if (!latencies.microseconds)
            abort();
    }
    latencies.microseconds[latencies.count++] = (float)((double)(int64_t)(latencies.arrived - stamp) / 1e3);
}

static int latency_compare(const void *one, const void *other)
{
    float a = *(const float *)one, b = *(const float *)other;
    return (a > b) - (a < b);
}

static inline void latency_sort(void)
{
    if (latencies.count)
        qsort(latencies.microseconds, latencies.count, sizeof(float), latency_compare);
}

/* Returns a percentile, 0 without events. Call latency_sort() first. */
static inline double latency_at(double part)
{
    if (!latencies.count)
        return 0;
    size_t index = (size_t)(part * (double)latencies.count);
    return (double)latencies.microseconds[index < latencies.count ? index : latencies.count - 1];
}

#endif

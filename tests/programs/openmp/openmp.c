// Products of matrices, sums and counters in parallel; the results do not depend on the number of threads.

#include <stdio.h>
#include <stdlib.h>

int main(int count, char **words) {
    const int size = count > 1 ? atoi(words[1]) : 400;
    double *left = malloc(sizeof(double) * size * size);
    double *right = malloc(sizeof(double) * size * size);
    double *product = calloc(size * size, sizeof(double));
    for (int at = 0; at < size * size; at++) {
        left[at] = at % 17;
        right[at] = at % 23;
    }
    for (int round = 0; round < 8; round++) {
        double sum = 0;
#pragma omp parallel for schedule(dynamic, 4)
        for (int row = 0; row < size; row++) {
            for (int column = 0; column < size; column++) {
                double cell = 0;
                for (int at = 0; at < size; at++) {
                    cell += left[row * size + at] * right[at * size + column];
                }
                product[row * size + column] += cell;
            }
        }
#pragma omp parallel for reduction(+ : sum)
        for (int at = 0; at < size * size; at++) {
            sum += product[at];
        }
        printf("%d %.0f\n", round, sum);
    }
    long counter = 0, millions = 0;
#pragma omp parallel for
    for (int at = 0; at < 200000; at++) {
#pragma omp atomic
        counter++;
        if (at % 50000 == 0) {
#pragma omp critical
            millions++;
        }
    }
    printf("%ld\n", millions * 1000000 + counter);
    return 0;
}

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.IntStream;

/** Pools of threads, parallel streams, a concurrent map and much garbage; prints what they came to. */
public class Threads {
    public static void main(String[] words) throws Exception {
        var pool = Executors.newFixedThreadPool(4);
        List<Future<Long>> sums = new ArrayList<>();
        for (int task = 0; task < 160; task++) {
            final long factor = task;
            sums.add(pool.submit(() -> {
                long sum = 0;
                for (int i = 1; i < 3_000_000; i++) sum += (i * factor) % (i % 1000 + 1);
                return sum;
            }));
        }
        long total = 0;
        for (var sum : sums) total += sum.get();
        System.out.println(total);
        Map<String, Integer> counts = new ConcurrentHashMap<>();
        IntStream.range(0, 1_500_000).parallel().forEach(i -> counts.merge("key" + i % 977, i % 13, Integer::sum));
        System.out.println(counts.size() + " " + counts.values().stream().mapToInt(i -> i).sum());
        System.out.println(IntStream.range(2, 600_000).parallel().filter(Threads::isPrime).count());
        long length = 0;
        for (int i = 0; i < 500; i++) {
            byte[][] garbage = new byte[100][];
            for (int j = 0; j < 100; j++) garbage[j] = new byte[20_000];
            length += garbage[i % 100].length;
        }
        System.out.println(length);
        pool.shutdown();
    }

    private static boolean isPrime(int number) {
        for (int factor = 2; factor * factor <= number; factor++) if (number % factor == 0) return false;
        return true;
    }
}

# Counts, transforms and sorts the words of a text, and prints what it found with digests of it.
use strict;
use warnings;
use Digest::SHA qw(sha1_hex);
use List::Util qw(reduce sum max first);
use POSIX qw(floor fmod);

my (%count, %by_length, @longest, $lines, $sum);
my $pattern = qr/\b(?<word>[[:alpha:]][[:alpha:]'-]*)\b/;
while (my $line = <STDIN>) {
    $lines++;
    while ($line =~ /$pattern/g) {
        my $word = lc $+{word};
        $count{$word}++;
        push @{ $by_length{ length $word } }, $word if $count{$word} == 1;
    }
    $sum = ($sum // 0) + unpack('%32C*', $line);
    $line =~ s/(\w+)\s+(\w+)/$2 $1/g;
    $line =~ tr/a-zA-Z/b-zaB-ZA/;
    push @longest, $line if length($line) > 200 && @longest < 500;
}
printf "%d lines, %d words, %d different, checksum %d\n", $lines, sum(values %count), scalar(keys %count), $sum;
my @sorted = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
printf "%-20s %8d\n", $_, $count{$_} for @sorted[0 .. 39];
for my $length (sort { $a <=> $b } keys %by_length) {
    my @words = sort @{ $by_length{$length} };
    printf "%3d: %7d %s\n", $length, scalar(@words), sha1_hex(join "\n", @words);
}
printf "lines: %s\n", sha1_hex(join '', sort @longest);
my $product = reduce { ($a * 31 + $b) % 1000000007 } map { length($_) * $count{$_} } @sorted;
printf "product %d, first of ten letters: %s\n", $product, first { length == 10 } @sorted;
my @matrix = map { my $row = $_; [ map { sin($row * $_) } 1 .. 60 ] } 1 .. 60;
my $trace = 0;
for my $i (0 .. 59) {
    $trace += $matrix[$i][$_] * $matrix[$_][$i] for 0 .. 59;
}
printf "trace %.12f, local time of 0: %s\n", $trace, join ' ', gmtime(0);
open my $pipe, '-|', 'echo one; echo two; exit 3' or die;
my @answer = <$pipe>;
close $pipe;
printf "child: %s status %d\n", join(',', map { chomp; $_ } @answer), $? >> 8;
local $SIG{ALRM} = sub { print "alarm\n" };
alarm 1;
select undef, undef, undef, 3;

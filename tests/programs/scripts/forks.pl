# Children that compute and hand their results back, four at a time.
use strict;
use warnings;
use Digest::SHA 'sha256_hex';
use Parallel::ForkManager;

my $manager = Parallel::ForkManager->new(4);
my %results;
$manager->run_on_finish(sub {
    my ($pid, $code, $name, $signal, $core, $data) = @_;
    $results{$name} = "$code $signal $$data[0]";
});
for my $number (1 .. 16) {
    $manager->start($number) and next;
    my $digest = "start $number";
    $digest = sha256_hex($digest) for 1 .. 150_000;
    $manager->finish($number % 7, [$digest]);
}
$manager->wait_all_children;
print "$_ $results{$_}\n" for sort { $a <=> $b } keys %results;

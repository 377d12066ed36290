package bench;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.Repartitioned;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * The rule as a Kafka Streams application: match, repartition by the term, first seen in RocksDB,
 * alert. Speaks the protocol of tests/benchmarks/protocol.py.
 *
 * <p>Two passes over the topic in one JVM, each under its own application id: the first one warms
 * up the compiler, the second one is measured.
 */
public final class Main {
    private static final OperatingSystemMXBean SYSTEM =
            (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();

    private final Map<String, String> task;
    private final int partitions;

    private Main(Map<String, String> task, int partitions) {
        this.task = task;
        this.partitions = partitions;
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, String> task = new HashMap<>();
        List<Long> ends = new ArrayList<>();
        readTask(arguments[0], task, ends);
        long count = ends.stream().mapToLong(Long::longValue).sum();
        Main main = new Main(task, ends.size());
        long warmUp = Long.parseLong(task.getOrDefault("warm_up", Long.toString(count)));
        long startAfter = Long.parseLong(task.getOrDefault("start_after", "0"));
        if (warmUp > 0) {
            new Pass(main, "warm", Math.min(count, warmUp), 0, false).run();
        }
        new Pass(main, "measured", count, startAfter, true).run();
        Runtime.getRuntime().halt(0);
    }

    private static void readTask(String json, Map<String, String> task, List<Long> ends)
            throws IOException {
        try (JsonParser parser = new JsonFactory().createParser(json)) {
            parser.nextToken();
            while (parser.nextToken() == JsonToken.FIELD_NAME) {
                String field = parser.currentName();
                JsonToken value = parser.nextToken();
                if (value != JsonToken.START_OBJECT) {
                    task.put(field, parser.getText());
                    continue;
                }
                while (parser.nextToken() == JsonToken.FIELD_NAME) {
                    String name = parser.currentName();
                    parser.nextToken();
                    if (field.equals("ends")) {
                        ends.add(parser.getLongValue());
                    } else {
                        task.put(name, parser.getText());
                    }
                }
            }
        }
    }

    private static void say(String event, long consumed, String more) {
        System.out.printf(
                "{\"event\":\"%s\",\"cpu\":%.6f,\"wall\":%.6f,\"consumed\":%d%s}%n",
                event, SYSTEM.getProcessCpuTime() / 1e9, System.nanoTime() / 1e9, consumed, more);
        System.out.flush();
    }

    /** One run over the topic from its beginning, until `count` events are decided. */
    private static final class Pass {
        private final Main main;
        private final String name;
        private final long count;
        private final long startAfter;
        private final boolean measured;
        private final AtomicLong consumed = new AtomicLong();
        private final AtomicLong matched = new AtomicLong();
        private final AtomicLong decided = new AtomicLong();
        private final AtomicLong fresh = new AtomicLong();
        private final CountDownLatch finished = new CountDownLatch(1);

        Pass(Main main, String name, long count, long startAfter, boolean measured) {
            this.main = main;
            this.name = name;
            this.count = count;
            this.startAfter = startAfter;
            this.measured = measured;
        }

        void run() throws InterruptedException {
            try (KafkaStreams streams = new KafkaStreams(topology(), properties())) {
                streams.start();
                finished.await();
                // Closing flushes the producer and commits: what is decided is durable then.
                streams.close(Duration.ofSeconds(30));
                if (measured) {
                    say("done", consumed.get(), ",\"found\":" + decided.get() + ",\"new\":"
                            + fresh.get() + ",\"rss_bytes\":" + residentBytes());
                }
            }
        }

        private org.apache.kafka.streams.Topology topology() {
            StreamsBuilder builder = new StreamsBuilder();
            builder.addStateStore(
                    Stores.keyValueStoreBuilder(
                                    Stores.persistentKeyValueStore("seen"),
                                    Serdes.String(),
                                    Serdes.Long())
                            .withLoggingEnabled(Map.of()));
            Rule rule = new Rule();
            builder.stream(
                            main.task.get("topic"),
                            Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()))
                    .flatMap(
                            (key, value) -> {
                                String term = rule.termOfMatch(value);
                                if (term != null) {
                                    matched.incrementAndGet();
                                }
                                count();
                                return term == null
                                        ? List.<KeyValue<String, byte[]>>of()
                                        : List.of(KeyValue.pair(term, value));
                            })
                    .repartition(
                            Repartitioned.with(Serdes.String(), Serdes.ByteArray())
                                    .withName("term")
                                    .withNumberOfPartitions(main.partitions))
                    .process(FirstSeen::new, "seen")
                    .to(
                            main.task.get("alerts"),
                            Produced.with(Serdes.String(), Serdes.ByteArray()));
            return builder.build();
        }

        private Properties properties() {
            Properties properties = new Properties();
            properties.put(
                    StreamsConfig.APPLICATION_ID_CONFIG, main.task.get("group") + "-" + name);
            properties.put(
                    StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, main.task.get("bootstrap"));
            properties.put(StreamsConfig.STATE_DIR_CONFIG, main.task.get("directory"));
            properties.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
            properties.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
            properties.put(
                    StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG),
                    "earliest");
            properties.put(
                    StreamsConfig.producerPrefix(ProducerConfig.COMPRESSION_TYPE_CONFIG), "lz4");
            return properties;
        }

        private void count() {
            long before = consumed.getAndIncrement();
            if (measured && before == 0 && startAfter == 0) {
                say("start", before, "");
            }
            endIfDecided();
        }

        private void endIfDecided() {
            if (consumed.get() >= count && decided.get() == matched.get()) {
                finished.countDown();
            }
        }

        private final class FirstSeen implements Processor<String, byte[], String, byte[]> {
            private ProcessorContext<String, byte[]> context;
            private KeyValueStore<String, Long> seen;

            @Override
            public void init(ProcessorContext<String, byte[]> given) {
                context = given;
                seen = given.getStateStore("seen");
            }

            @Override
            public void process(Record<String, byte[]> match) {
                Long before = seen.get(match.key());
                seen.put(match.key(), match.timestamp());
                if (before == null) {
                    fresh.incrementAndGet();
                    context.forward(match);
                }
                long decisions = decided.incrementAndGet();
                if (measured && decisions == startAfter) {
                    say("start", decisions, "");
                }
                endIfDecided();
            }
        }

        private static long residentBytes() {
            try {
                for (String line :
                        java.nio.file.Files.readAllLines(
                                java.nio.file.Path.of("/proc/self/status"))) {
                    if (line.startsWith("VmHWM:")) {
                        return Long.parseLong(line.replaceAll("\\D", "")) * 1024;
                    }
                }
            } catch (IOException unreadable) {
                return 0;
            }
            return 0;
        }
    }
}

// JDBC through the proxy. Settings come from PGHOST, PGPORT and so on; with PGDOG_TEST_CA, TLS with verification.
// The source is run as it is: java -cp /usr/share/java/postgresql.jar Jdbc.java

import java.io.StringReader;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.HashSet;
import java.util.Properties;
import java.util.Set;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;

public class Jdbc {
    interface Work {
        void on(Connection connection) throws Exception;
    }

    static final boolean POOLED = !"direct".equals(System.getenv("TARGET_KIND"));
    static int passed = 0;
    static boolean failed = false;

    static Connection connect(String... more) throws SQLException {
        Properties settings = new Properties();
        settings.setProperty("user", System.getenv("PGUSER"));
        settings.setProperty("password", System.getenv("PGPASSWORD"));
        settings.setProperty("connectTimeout", "20");
        settings.setProperty("socketTimeout", "40");
        String authority = System.getenv("PGDOG_TEST_CA");
        settings.setProperty("sslmode", authority == null ? "disable" : "verify-full");
        if (authority != null) {
            settings.setProperty("sslrootcert", authority);
        }
        for (int at = 0; at < more.length; at += 2) {
            settings.setProperty(more[at], more[at + 1]);
        }
        String place = System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE");
        return DriverManager.getConnection("jdbc:postgresql://" + place, settings);
    }

    static void check(String name, Work work, String... settings) {
        try (Connection connection = connect(settings)) {
            work.on(connection);
            passed += 1;
            System.out.println("ok " + name);
        } catch (Throwable error) {
            failed = true;
            System.out.println("not ok " + name);
            error.printStackTrace(System.out);
        }
    }

    static void expect(Object found, Object wanted) {
        if (!wanted.equals(found)) {
            throw new AssertionError("got " + found + " instead of " + wanted);
        }
    }

    static Object value(Connection connection, String query) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(query)) {
            rows.next();
            return rows.getObject(1);
        }
    }

    static void run(Connection connection, String... texts) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            for (String text : texts) {
                statement.execute(text);
            }
        }
    }

    static String stateOf(Work work, Connection connection) throws Exception {
        try {
            work.on(connection);
        } catch (SQLException error) {
            return error.getSQLState();
        }
        return "no error";
    }

    public static void main(String[] arguments) throws Exception {
        // Named on the server from the fifth execution on; "prepareThreshold" 1 from the first.
        for (String threshold : new String[] {"1", "5"}) {
            check("prepared statements on changing servers, threshold " + threshold, connection -> {
                Set<Integer> servers = new HashSet<>();
                try (PreparedStatement statement = connection.prepareStatement("SELECT ?::int * 2, pg_backend_pid()")) {
                    for (int n = 0; n < 200; n++) {
                        statement.setInt(1, n);
                        try (ResultSet rows = statement.executeQuery()) {
                            rows.next();
                            expect(rows.getInt(1), n * 2);
                            servers.add(rows.getInt(2));
                        }
                    }
                }
                if (POOLED && servers.size() < 2) {
                    throw new AssertionError("the servers did not change: this test tests nothing");
                }
            }, "prepareThreshold", threshold);
        }

        check("batches", connection -> {
            run(connection, "DROP TABLE IF EXISTS jdbc_batch", "CREATE TABLE jdbc_batch (id int, v text)");
            try (PreparedStatement statement = connection.prepareStatement("INSERT INTO jdbc_batch VALUES (?, ?)")) {
                for (int n = 0; n < 3000; n++) {
                    statement.setInt(1, n);
                    statement.setString(2, "value " + n);
                    statement.addBatch();
                }
                expect(statement.executeBatch().length, 3000);
            }
            expect(value(connection, "SELECT count(DISTINCT v) FROM jdbc_batch"), 3000L);
        });

        check("transactions, savepoints, cursors", connection -> {
            run(connection, "DROP TABLE IF EXISTS jdbc_t", "CREATE TABLE jdbc_t (id int PRIMARY KEY)");
            connection.setAutoCommit(false);
            for (int n = 0; n < 20; n++) {
                run(connection, "INSERT INTO jdbc_t VALUES (" + n + ")");
                Savepoint savepoint = connection.setSavepoint();
                int again = n;
                expect(stateOf(c -> run(c, "INSERT INTO jdbc_t VALUES (" + again + ")"), connection), "23505");
                connection.rollback(savepoint);
                try (Statement statement = connection.createStatement()) {
                    statement.setFetchSize(7);
                    int seen = 0;
                    try (ResultSet rows = statement.executeQuery("SELECT generate_series(1, 100)")) {
                        while (rows.next()) {
                            seen += 1;
                            expect(rows.getInt(1), seen);
                        }
                    }
                    expect(seen, 100);
                }
                if (n % 2 == 0) {
                    connection.commit();
                } else {
                    connection.rollback();
                }
            }
            connection.setAutoCommit(true);
            expect(value(connection, "SELECT count(*) FROM jdbc_t"), 10L);
        });

        check("errors leave statements usable", connection -> {
            try (PreparedStatement statement = connection.prepareStatement("SELECT 6 / ?::int")) {
                for (int n = 0; n < 30; n++) {
                    statement.setInt(1, 0);
                    expect(stateOf(c -> statement.executeQuery(), connection), "22012");
                    statement.setInt(1, 3);
                    try (ResultSet rows = statement.executeQuery()) {
                        rows.next();
                        expect(rows.getInt(1), 2);
                    }
                }
            }
        });

        check("copy both ways", connection -> {
            run(connection, "DROP TABLE IF EXISTS jdbc_copy", "CREATE TABLE jdbc_copy (id int, v text)");
            StringBuilder lines = new StringBuilder();
            for (int n = 0; n < 20_000; n++) {
                lines.append(n).append("\tvalue ").append(n).append('\n');
            }
            var copier = connection.unwrap(PGConnection.class).getCopyAPI();
            expect(copier.copyIn("COPY jdbc_copy FROM STDIN", new StringReader(lines.toString())), 20_000L);
            StringWriter back = new StringWriter();
            expect(copier.copyOut("COPY (SELECT * FROM jdbc_copy ORDER BY id) TO STDOUT", back), 20_000L);
            expect(back.toString().equals(lines.toString()), true);
        });

        check("large values both ways", connection -> {
            byte[] large = new byte[3_000_000];
            for (int at = 0; at < large.length; at++) {
                large[at] = (byte) (at * 31);
            }
            try (PreparedStatement statement = connection.prepareStatement("SELECT ?::bytea")) {
                statement.setBytes(1, large);
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    expect(java.util.Arrays.equals(rows.getBytes(1), large), true);
                }
            }
        });

        check("notifications", connection -> {
            run(connection, "LISTEN jdbc_news");
            try (Connection other = connect()) {
                run(other, "NOTIFY jdbc_news, 'first'", "NOTIFY jdbc_news, 'second'");
            }
            StringBuilder heard = new StringBuilder();
            while (heard.length() < "first second ".length()) {
                PGNotification[] found = connection.unwrap(PGConnection.class).getNotifications(10_000);
                expect(found != null && found.length > 0, true);
                for (PGNotification one : found) {
                    heard.append(one.getParameter()).append(' ');
                }
            }
            expect(heard.toString(), "first second ");
            run(connection, "UNLISTEN *");
        });

        check("cancel and time limit", connection -> {
            try (Statement statement = connection.createStatement()) {
                Thread canceller = new Thread(() -> {
                    try {
                        Thread.sleep(300);
                        statement.cancel();
                    } catch (Exception error) {
                        error.printStackTrace(System.out);
                    }
                });
                canceller.start();
                expect(stateOf(c -> statement.execute("SELECT pg_sleep(30)"), connection), "57014");
                canceller.join();
                statement.setQueryTimeout(1);
                expect(stateOf(c -> statement.execute("SELECT pg_sleep(30)"), connection), "57014");
            }
            expect(value(connection, "SELECT 1"), 1);
        });

        check("what the driver asks about itself", connection -> {
            expect(connection.isValid(5), true);
            run(connection, "DROP TABLE IF EXISTS jdbc_meta", "CREATE TABLE jdbc_meta (id int PRIMARY KEY, v text)");
            try (ResultSet columns = connection.getMetaData().getColumns(null, null, "jdbc_meta", null)) {
                StringBuilder names = new StringBuilder();
                while (columns.next()) {
                    names.append(columns.getString("COLUMN_NAME")).append(' ');
                }
                expect(names.toString(), "id v ");
            }
            connection.setReadOnly(true);
            connection.setAutoCommit(false);
            expect(stateOf(c -> run(c, "INSERT INTO jdbc_meta VALUES (1, 'x')"), connection), "25006");
            connection.rollback();
        });

        if (System.getenv("PGDOG_TEST_CA") != null) {
            String stranger = System.getenv("PGDOG_TEST_STRANGER");
            expect(stateOf(c -> connect("sslrootcert", stranger).close(), null), "08006");
            System.out.println("ok a certificate of somebody else is not believed");
        }
        System.out.println(passed + " checks passed");
        System.exit(failed ? 1 : 0);
    }
}

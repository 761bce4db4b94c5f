import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.URL;
import java.net.URLClassLoader;
import java.util.ArrayList;
import java.util.List;
import org.jetbrains.kotlin.cli.common.ExitCode;
import org.jetbrains.kotlin.cli.jvm.K2JVMCompiler;
import org.junit.runner.Request;
import org.junit.runner.notification.Failure;
import org.junit.runner.notification.RunListener;
import org.junit.runner.notification.RunNotifier;
import org.junit.runner.notification.StoppedByUserException;

/**
 * Compiles a module of apps/android and runs tests on it, again and again in one warm JVM: test_android_faults.py asks.
 *
 * Each line read: module, its sources, a folder for its classes, the folders of the other classes, names of test classes,
 * with tabs between. Each line written: "passed", "not compiled", or "failed TEST: MESSAGE" of the first test that fails.
 */
public class PlantedFaults {
    public static void main(String[] arguments) throws Exception {
        PrintStream answers = System.out;
        System.setOut(System.err);
        System.setProperty("kotlin.environment.keepalive", "true");
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] asked = line.split("\t");
            answers.println(compiled(asked) ? tested(asked) : "not compiled");
            answers.flush();
        }
    }

    private static boolean compiled(String[] asked) {
        String classpath = System.getProperty("java.class.path") + File.pathSeparator + asked[3];
        ExitCode code = new K2JVMCompiler().exec(System.err, asked[1], "-d", asked[2], "-module-name", asked[0], "-no-stdlib",
            "-no-reflect", "-nowarn", "-jvm-target", "17", "-classpath", classpath);
        return code == ExitCode.OK;
    }

    /** Run the tests on these classes: another class loader for each fault, over the libraries that all share. */
    private static String tested(String[] asked) throws Exception {
        List<URL> urls = new ArrayList<>();
        for (String folder : (asked[2] + File.pathSeparator + asked[3]).split(File.pathSeparator)) {
            urls.add(new File(folder).toURI().toURL());
        }
        try (URLClassLoader loader = new URLClassLoader(urls.toArray(new URL[0]))) {
            for (String name : asked[4].split(" ")) {
                String failed = firstFailure(loader.loadClass(name));
                if (failed != null) return "failed " + failed;
            }
        }
        return "passed";
    }

    private static String firstFailure(Class<?> tests) {
        String[] found = new String[1];
        RunNotifier notifier = new RunNotifier();
        notifier.addListener(new RunListener() {
            @Override
            public void testFailure(Failure failure) {
                String message = String.valueOf(failure.getException()).replaceAll("\\s+", " ");
                found[0] = failure.getDescription() + ": " + message.substring(0, Math.min(300, message.length()));
                notifier.pleaseStop();
            }
        });
        try {
            Request.aClass(tests).getRunner().run(notifier);
        } catch (StoppedByUserException stopped) {
            // the first failure is enough
        }
        return found[0];
    }
}

package bench;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.util.Locale;
import java.util.Set;
import java.util.regex.Pattern;

/**
 * The built-in rule written by hand on Jackson's streaming parser: no tree is built, and an event
 * of another library is left as soon as its name is read.
 */
final class Rule {
    private static final JsonFactory FACTORY = new JsonFactory();
    private static final Set<String> ENGINES =
            Set.of("System.Management.Automation.dll", "System.Management.Automation.ni.dll");
    private static final Set<String> MICROSOFT =
            Set.of("Microsoft Corporation", "Microsoft Dynamic Code Publisher", "Microsoft Windows");
    private static final Set<String> HOSTS_OF_CODE = Set.of("regsvr32.exe", "rundll32.exe");
    private static final Pattern PROGRAM_FILES =
            Pattern.compile("c:\\\\program.*files.*\\\\.*\\.exe", Pattern.DOTALL);
    private static final Pattern LENOVO =
            Pattern.compile("c:\\\\windows\\\\lenovo\\\\.*\\.exe", Pattern.DOTALL);
    private static final String CHOCOLATEY = "c:\\programdata\\chocolatey\\choco.exe";
    private static final String POWERSHELL =
            "c:\\windows\\system32\\windowspowershell\\v1.0\\powershell.exe";

    private String hostId;
    private String osType;
    private boolean isLibrary;
    private boolean isEngine;
    private String executable;
    private String name;
    private String signer;
    private boolean trusted;
    private String userId;

    /** Returns what must be new (host, program and user) if the event matches, else null. */
    String termOfMatch(byte[] event) {
        reset();
        try (JsonParser parser = FACTORY.createParser(event)) {
            if (parser.nextToken() != JsonToken.START_OBJECT || !readEvent(parser)) {
                return null;
            }
        } catch (IOException malformed) {
            return null;
        }
        return matches() ? hostId + "\n" + executable + "\n" + userId : null;
    }

    private void reset() {
        hostId = osType = executable = name = signer = userId = null;
        isLibrary = isEngine = trusted = false;
    }

    private boolean readEvent(JsonParser parser) throws IOException {
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
            String field = parser.currentName();
            JsonToken value = parser.nextToken();
            switch (field) {
                case "dll" -> {
                    if (!readLibrary(parser)) {
                        return false;
                    }
                }
                case "event" -> readEventBlock(parser);
                case "host" -> readHost(parser);
                case "process" -> readProcess(parser);
                case "user" -> userId = readText(parser, "id");
                default -> skip(parser, value);
            }
        }
        return true;
    }

    private boolean readLibrary(JsonParser parser) throws IOException {
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
            boolean isName = parser.currentName().equals("name");
            JsonToken value = parser.nextToken();
            if (isName) {
                isEngine = ENGINES.contains(parser.getText());
                if (!isEngine) {
                    return false;
                }
            } else {
                skip(parser, value);
            }
        }
        return isEngine;
    }

    private void readEventBlock(JsonParser parser) throws IOException {
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
            boolean isCategory = parser.currentName().equals("category");
            JsonToken value = parser.nextToken();
            if (isCategory && value == JsonToken.START_ARRAY) {
                while (parser.nextToken() != JsonToken.END_ARRAY) {
                    isLibrary |= parser.getText().equals("library");
                }
            } else if (isCategory) {
                isLibrary = parser.getText().equals("library");
            } else {
                skip(parser, value);
            }
        }
    }

    private void readHost(JsonParser parser) throws IOException {
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
            String field = parser.currentName();
            JsonToken value = parser.nextToken();
            switch (field) {
                case "id" -> hostId = parser.getText();
                case "os" -> osType = readText(parser, "type");
                default -> skip(parser, value);
            }
        }
    }

    private void readProcess(JsonParser parser) throws IOException {
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
            String field = parser.currentName();
            JsonToken value = parser.nextToken();
            switch (field) {
                case "name" -> name = parser.getText();
                case "executable" -> executable = parser.getText();
                case "code_signature" -> readSignature(parser);
                default -> skip(parser, value);
            }
        }
    }

    private void readSignature(JsonParser parser) throws IOException {
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
            String field = parser.currentName();
            JsonToken value = parser.nextToken();
            switch (field) {
                case "subject_name" -> signer = parser.getText();
                case "trusted" -> trusted = value == JsonToken.VALUE_TRUE;
                default -> skip(parser, value);
            }
        }
    }

    private static String readText(JsonParser parser, String wanted) throws IOException {
        String text = null;
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
            boolean isWanted = parser.currentName().equals(wanted);
            JsonToken value = parser.nextToken();
            if (isWanted) {
                text = parser.getText();
            } else {
                skip(parser, value);
            }
        }
        return text;
    }

    private static void skip(JsonParser parser, JsonToken value) throws IOException {
        if (value.isStructStart()) {
            parser.skipChildren();
        }
    }

    private boolean matches() {
        if (!isEngine || !isLibrary || !"windows".equals(osType)) {
            return false;
        }
        if (hostId == null || executable == null || userId == null) {
            return false;
        }
        String path = executable.toLowerCase(Locale.ROOT);
        if (path.equals(POWERSHELL)) {
            return false;
        }
        return !(trusted && isTrustedElsewhere(path));
    }

    private boolean isTrustedElsewhere(String path) {
        if (signer != null
                && MICROSOFT.contains(signer)
                && !HOSTS_OF_CODE.contains(name.toLowerCase(Locale.ROOT))) {
            return true;
        }
        if (PROGRAM_FILES.matcher(path).matches()) {
            return true;
        }
        if ("Lenovo".equals(signer) && LENOVO.matcher(path).matches()) {
            return true;
        }
        return "Chocolatey Software, Inc.".equals(signer) && path.equals(CHOCOLATEY);
    }
}

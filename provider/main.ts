/** The provider's process: what the bundle starts. */
import { servePlugin } from "./plugin/serve.ts";
import { createProvider } from "./provider.ts";

servePlugin((log) => createProvider({ log, environment: process.env }));

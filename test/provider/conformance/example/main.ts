/** The example provider's process; built and started by the conformance tests. */
import { servePlugin } from "@drover/provider/plugin/serve";
import { createProvider } from "@drover/provider/provider";
import { catalogue } from "./catalogue.ts";

servePlugin((log) => createProvider({ log, environment: process.env, catalogue }));

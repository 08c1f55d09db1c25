"""How a frozen LuminaNet is used: artifacts -> models -> engines -> HTTP. Never imports torch.

Reading order, from the edge inwards and out again:

    __main__     command line: settings, socket, models, app, server
    settings     every knob, from flags and LUMINANET_* variables
    keys         API keys, as hashes
    models/      artifact directory -> models: which graphs, which bytes, which interface
    runtimes/    the narrow door to onnxruntime and TensorRT
    service      an engine for each model, and the life of them all; artifacts loaded anew
    shadow       requests computed again by both models, when nobody waits, to compare them
    engines/     a thread behind a bounded queue each: text, images; the self-test
    pictures/    bytes of a picture -> pixels
    app          create_app(settings, models): routes, middleware, errors
    page/        the page at /, for people with a browser
    api/         routes, bodies and answers, streams, health and metrics; OpenAI's and KServe's APIs
    errors       error class -> status
    metrics/     every number under /metrics
    logs         lines of text, or JSON
    server       uvicorn that drains on SIGTERM, and on SIGHUP has artifacts loaded anew
    protocol     HTTP/1.1 on a connection: bounds, deadlines, who left
    keys         python -m serving.keys: API keys, and who may ask with them
    measure/     python -m serving.measure: what each model takes of memory
"""

"""How a frozen LuminaNet is used: artifacts -> models -> engines -> HTTP. Never imports torch.

Reading order, from the edge inwards and out again:

    __main__       command line: settings, socket, models, app, server
    settings       every knob, from flags and LUMINANET_* variables
    models         artifact directory -> TextModel, ImageModel
      selection      which graphs of an artifact are served
      graph          which ONNX bytes may reach the runtime
      interface      the inputs and outputs that they must have
      memory         a ceiling over what loading and first runs may take
      runtime        the one narrow door to onnxruntime; a graph for each batch size
      plan           the same door to TensorRT
    selftest       every graph, tried on the artifact's probes
    service        an engine for each model, and the life of them all
      engine         a thread behind a bounded queue; results go to asyncio once per step
      scheduler      text: continuous batching
        decoding       what a sequence keeps between two calls: a window, or a KV cache
        transcript     tokens -> text, and stop strings
      classifier     images: micro-batching
        images         bytes of a picture -> pixels
          containers, orientation, colours    what a file may hold, which way is up, and sRGB
    app            create_app(settings, models): routes, middleware, errors
      routes         /generate and /classify
        schemas        bodies and answers
        uploads        body of a request -> checked values
        streaming      outbox of a request -> answer or server-sent events
      operations     /models, /health/*, /metrics
      middleware     body limit, request metrics
      errors         error class -> status
      metrics        every number under /metrics
    server         uvicorn that drains on SIGTERM
"""

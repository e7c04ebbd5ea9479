"""What every Portier Broker process needs: settings, logs, tracing, the internal port, a graceful stop."""
